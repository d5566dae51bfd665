"""What pyproject.toml has no words for: an installed package carries a copy of the folder `experiments`."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithExperiments(build_py):
    """Copies the experiments into the package; `evidence` stays, since its study runs in the repository."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a checkout's are found where they are
            return
        inside = Path(self.build_lib, "detnas_nni", "experiments")
        shutil.rmtree(inside, ignore_errors=True)
        shutil.copytree("experiments", inside, ignore=shutil.ignore_patterns("evidence"))


setup(cmdclass={"build_py": BuildWithExperiments})
