"""How are codes trained together with a network? RQ-VAE: encoder, residual codes, decoder, straight through the search.

Singh et al., "Better Generalization with Semantic IDs", RecSys 2024; Lee et al., "Autoregressive Image Generation using
Residual Quantization", CVPR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.data.assign_semantic_ids.config import RqVae
from components.data.assign_semantic_ids.quantise import Floats, kmeans_books

ENCODER = "encoder."


@dataclass(frozen=True)
class Quantised:
    """What residual search makes of latent vectors."""

    codes: Tensor
    """int64 ``[n, L]``."""
    sums: Tensor
    """float32 ``[n, d]``, the chosen codes of all levels, added up."""
    loss: Tensor
    """float32 ``[n]``: over levels, what codes miss of what is left, and β times what is left misses of its code."""


def quantised(latent: Tensor, books: Tensor, beta: float) -> Quantised:
    """Return what residual search finds.

    Args:
        latent: float32 ``[n, d]``.
        books: float32 ``[L, K, d]``.
        beta: see `RqVae`.
    """
    left, codes, sums, loss = latent, [], torch.zeros_like(latent), latent.new_zeros(len(latent))
    for book in books:
        halves = book.detach().pow(2).sum(dim=1) / 2
        code = (halves - left.detach() @ book.detach().T).argmin(dim=1)
        chosen = functional.embedding(code, book)
        loss = loss + (left.detach() - chosen).pow(2).sum(dim=1) + beta * (left - chosen.detach()).pow(2).sum(dim=1)
        sums, left = sums + chosen, left - chosen.detach()
        codes.append(code)
    return Quantised(torch.stack(codes, dim=1), sums, loss)


def network(widths: list[int]) -> nn.Sequential:
    """Return linear layers of these widths with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train_rqvae(
    vectors: Floats, levels: int, codes: int, sizes: RqVae, seed: int
) -> tuple[list[Floats], dict[str, Floats]]:
    """Return the codebooks, float32 ``[K, d]`` by level, and the encoder's weights by name.

    Codes start by k-means of what the untrained encoder gives. Those that no item had in a pass start anew, at an item
    of that level.

    Args:
        vectors: float32 ``[n, D]``, n at least K.
        levels: L.
        codes: K.
        sizes: of the network and its training.
        seed: of everything random.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        widths = [vectors.shape[1], *sizes.hidden, sizes.latent]
        encoder, decoder = network(widths), network(widths[::-1])
        data = torch.from_numpy(vectors)
        with torch.no_grad():
            first = encoder(data).numpy().astype(np.float32)
        books = nn.Parameter(torch.from_numpy(np.stack(kmeans_books(first, levels, codes, seed))))
        optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), books], sizes.learning_rate)
        for epoch in range(sizes.epochs):
            used = torch.zeros(levels, codes, dtype=torch.bool)
            for at in torch.randperm(len(data)).split(sizes.batch_size):
                latent = encoder(data[at])
                found = quantised(latent, books, sizes.beta)
                restored = decoder(latent + (found.sums - latent).detach())
                loss = ((restored - data[at]).pow(2).sum(dim=1) + found.loss).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                used.scatter_(1, found.codes.T, value=True)
            if epoch < sizes.epochs // 2:  # later ones would have no time to settle
                _revive(books, used, encoder(data).detach())
        kept = {ENCODER + name: value.numpy().copy() for name, value in encoder.state_dict().items()}
        return [book.copy() for book in books.detach().numpy()], kept


@torch.no_grad()
def _revive(books: Tensor, used: Tensor, latent: Tensor) -> None:
    """Put codes that nothing has where some item's rest is."""
    left = latent
    for level, book in enumerate(books):
        dead = torch.nonzero(~used[level]).squeeze(1)
        if len(dead):
            book[dead] = left[torch.randint(len(left), (len(dead),))]
        code = (book.pow(2).sum(dim=1) / 2 - left @ book.T).argmin(dim=1)
        left = left - book[code]


@torch.no_grad()
def encoded(vectors: Floats, weights: dict[str, Floats]) -> Floats:
    """Return float32 ``[n, d]``, what a trained encoder makes of vectors."""
    names = sorted(name for name in weights if name.endswith(".weight"))
    names = sorted(names, key=lambda name: int(name.split(".")[1]))
    widths = [vectors.shape[1], *(weights[name].shape[0] for name in names)]
    encoder = network(widths)
    encoder.load_state_dict({n.removeprefix(ENCODER): torch.from_numpy(v) for n, v in weights.items()})
    made: Floats = encoder(torch.from_numpy(vectors)).numpy()
    return made
