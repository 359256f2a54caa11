"""Everything that Cirrus decides. Pure: no I/O, no clock, no chance."""
