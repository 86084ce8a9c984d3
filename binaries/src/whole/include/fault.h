/* SPDX-License-Identifier: BSD-2-Clause */
/* Wrong versions for the tests: -DFAULT=<number>, numbered as in binaries/faults.md. The corpus has none. */
#ifndef KEXEC_VERIFY_FAULT_H
#define KEXEC_VERIFY_FAULT_H

#ifndef FAULT
#define FAULT 0
#endif

/* A constant condition, so that no trace of the other version is left in the code. */
#define FAULTY(number, wrong, right) (FAULT == (number) ? (wrong) : (right))

#endif
