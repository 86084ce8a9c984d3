"""Names the packages of the distribution: `verify/` is `kexec_verify`, `specs/` is `kexec_verify.specs`."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

DIRECTORIES = {"kexec_verify": "verify", "kexec_verify.specs": "specs"}
# Folders of data: the shipped ELF files. The sdist also has their sources and the script that builds them.
CORPUS = {"kexec_verify.corpus": "binaries", "kexec_verify.corpus.whole": "binaries/whole"}


class BuildPackages(build_py):
    """Builds the packages without the script that makes the corpus."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        return [] if package in CORPUS else super().find_package_modules(package, package_dir)


setup(
    cmdclass={"build_py": BuildPackages},
    package_dir=DIRECTORIES | CORPUS,
    packages=[
        *(
            name
            for package, directory in DIRECTORIES.items()
            for name in (package, *(f"{package}.{inner}" for inner in find_packages(directory)))
        ),
        *CORPUS,
    ],
)
