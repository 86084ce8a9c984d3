"""kexec's own functions: where they are, what form they have, what is owed for them."""
