"""The meaning of arm64 instructions: decoding, execution, system state, caches."""
