"""The instruction set: one table, and what is derived from it (encoder, decoder, listing, C header)."""
