"""Names the packages of the distribution: `verify/` is `kexec_verify`, `specs/` is `kexec_verify.specs`."""

from setuptools import find_packages, setup

DIRECTORIES = {"kexec_verify": "verify", "kexec_verify.specs": "specs"}

setup(
    package_dir=DIRECTORIES,
    packages=[
        name
        for package, directory in DIRECTORIES.items()
        for name in (package, *(f"{package}.{inner}" for inner in find_packages(directory)))
    ],
)
