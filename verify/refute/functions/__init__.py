"""Run kexec's C functions, the restart code and the hyp stub on concrete inputs."""
