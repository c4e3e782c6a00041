"""Do values have the places that a hash table of the whole vocabulary gives, however many are asked for?"""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.declaration import FIRST, PADDING, UNKNOWN, FieldEncoding
from features.encoding.encoder import Encoder
from features.encoding.files import ENCODER, FILES, VOCABULARIES, copy_encoder, read_encoder, write_encoder
from features.encoding.vocabularies import ABSENT, Vocabulary
from features.ground.errors import BadInputError, MissingError

INTEGERS = st.one_of(st.integers(-3, 40), st.integers(-(2**63), 2**63 - 1))
TEXTS = st.one_of(
    st.integers(-3, 200).map(str), st.text(max_size=4), st.sampled_from(["a", "a\0", "ab", "é", "𝔸", "\uffff"])
)


def looked_up(known: list[Any], wanted: pa.Array) -> list[int]:
    """Return the indices as they were found before vocabularies were searched: by a hash table for every call."""
    vocabulary = pa.array(sorted(set(known)), type=wanted.type)
    found = pc.fill_null(pc.index_in(wanted, value_set=vocabulary), UNKNOWN - FIRST).to_numpy() + FIRST
    return np.where(pc.is_null(wanted).to_numpy(zero_copy_only=False), PADDING, found).tolist()


@given(
    st.one_of(
        st.tuples(st.just(pa.int64()), st.lists(INTEGERS, min_size=1, max_size=300), st.lists(st.none() | INTEGERS)),
        st.tuples(st.just(pa.string()), st.lists(TEXTS, min_size=1, max_size=300), st.lists(st.none() | TEXTS)),
    ),
    st.integers(0, 3),
)
def test_places_are_those_of_a_hash_table(drawn: tuple[pa.DataType, list[Any], list[Any]], skip: int) -> None:
    kind, known, asked = drawn
    wanted = pa.array([None, *asked, *known[:5]], kind)[skip:]
    column, dtype = pa.array(known, kind), "string" if pa.types.is_string(kind) else "int64"
    encoder = Encoder.fit(pa.table({"x": column}), {"x": dtype})
    rows = pa.table({"x": wanted})
    one_by_one = [int(encoder.encode(rows.slice(row, 1))["x"][0]) for row in range(len(wanted))]
    expected = looked_up(known, wanted)
    assert encoder.encode(rows)["x"].tolist() == expected == one_by_one
    many = pa.concat_arrays([wanted] * 64)
    assert encoder.encode(pa.table({"x": many}))["x"].tolist() == expected * 64


@pytest.mark.parametrize("texts", [False, True])
def test_a_large_vocabulary_is_searched_as_it_is_looked_up(texts: bool) -> None:
    numbers = np.arange(0, 300_000, 3)
    known = Vocabulary.sorted(pa.array(map(str, numbers)) if texts else numbers)
    values = np.array([0, 1, 2, 3, 299_997, 299_998, 10**9, *range(500, 700)])
    wanted = pa.array([*map(str, values)] if texts else values)
    place = {value: at for at, value in enumerate(known)}
    expected = [place.get(value, ABSENT) for value in wanted.to_pylist()]
    assert known.places(wanted).tolist() == expected
    assert known.places(pa.concat_arrays([wanted] * 200)).tolist() == expected * 200
    assert known.places(wanted.slice(3, 2)).tolist() == expected[3:5]
    assert known.places(known.values.slice(70, 2)).tolist() == [70, 71]


def test_bytes_that_are_no_text_are_unknown() -> None:
    known = Vocabulary.sorted(["a", "b"])
    broken = pa.array([b"\xff", b"b"]).view(pa.string())
    assert known.places(broken).tolist() == [ABSENT, 1]


@pytest.fixture
def encoder() -> Encoder:
    rows = pa.table({"item": [3, 1, 2], "city": ["é", "a", None], "old": [[1, 2], [], [9]], "price": [1.0, 2.0, 3.0]})
    dtypes = {"item": "int64", "city": "string", "old": "array<int64>", "price": "float64"}
    return Encoder.fit(rows, dtypes, {"old": FieldEncoding(shares="item")})


def test_what_is_kept_is_the_same_encoder_in_the_same_bytes(encoder: Encoder, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    write_encoder(encoder, folders[0])
    write_encoder(read_encoder(folders[0]), folders[1])
    copy_encoder(folders[1], folders[2])
    assert read_encoder(folders[2]) == encoder
    for name in FILES:
        assert len({(folder / name).read_bytes() for folder in folders}) == 1
    assert sorted(path.name for path in folders[0].iterdir()) == sorted(FILES)
    assert _allocated(folders[0]) < 4096, "values stay in their file"


def _allocated(folder: Path) -> int:
    write_encoder(Encoder((), {"item": Vocabulary.sorted(np.arange(10_000))}), folder)
    gc.collect()
    before = pa.total_allocated_bytes()
    made = read_encoder(folder)
    assert len(made.vocabularies["item"]) == 10_000
    return int(pa.total_allocated_bytes() - before)


def test_an_encoder_with_its_vocabularies_in_json_is_still_read(encoder: Encoder, tmp_path: Path) -> None:
    """As versions hold it that were registered before vocabularies had a file."""
    fitted = [field.model_dump(mode="json") for field in encoder.fitted]
    inline = {name: [*known] for name, known in encoder.vocabularies.items()}
    (tmp_path / ENCODER).write_text(json.dumps({"fitted": fitted, "vocabularies": inline}))
    (tmp_path / "copy").mkdir()
    copy_encoder(tmp_path, tmp_path / "copy")
    assert read_encoder(tmp_path / "copy") == encoder
    assert read_encoder(tmp_path).fields == encoder.fields


def test_an_encoder_without_vocabularies_is_kept_too(tmp_path: Path) -> None:
    encoder = Encoder.fit(pa.table({"x": [1.0, 2.0]}), {"x": "float64"})
    write_encoder(encoder, tmp_path)
    assert read_encoder(tmp_path) == encoder


def test_a_damaged_or_missing_file_is_one_sentence(encoder: Encoder, tmp_path: Path) -> None:
    write_encoder(encoder, tmp_path)
    path = tmp_path / VOCABULARIES
    whole = path.read_bytes()
    place = whole.index(np.int64(3).tobytes())
    for broken in (b"", whole[:100], whole[:place] + b"\x04" + whole[place + 1 :]):
        path.write_bytes(broken)
        with pytest.raises(BadInputError) as error:
            read_encoder(tmp_path, "model shop v3")
        assert str(error.value) == (
            "vocabularies.arrow of model shop v3 cannot be read (it is not the one that belongs to encoder.json): make "
            "it again"
        )
    path.unlink()
    with pytest.raises(MissingError, match="has no vocabularies"):
        read_encoder(tmp_path)
    (tmp_path / ENCODER).write_text((tmp_path / ENCODER).read_text().replace('"version": 2', '"version": 3'))
    with pytest.raises(BadInputError, match=r"encoder\.json of m cannot be read"):
        read_encoder(tmp_path, "m")
