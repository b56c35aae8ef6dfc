"""The one thing that pyproject.toml cannot say: conf/ and sweeps/ stand at the top, and travel inside the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mlp_study*"]), "hydra_plugins.mlp_study", "mlp_study.conf", "mlp_study.sweeps"],
    package_dir={"mlp_study.conf": "conf", "mlp_study.sweeps": "sweeps"},
)
