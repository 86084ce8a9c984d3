"""What arm64 instructions mean: decoding, execution, system state, caches."""
