"""A fake of cuML, of which there is ``cuml.accel`` alone; see there."""
