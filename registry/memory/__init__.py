"""What has the champion got wrong lately? ReLoop2's error memory: sketch, keys, compensation, replay."""
