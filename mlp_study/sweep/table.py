"""The sweep's table, one row a finished run; only results that are new are read."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import DataError
from mlp_study.records.run_folder import RESULT
from mlp_study.records.runs_table import framed, read_run
from mlp_study.runtime.files import table_cell, write_file

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

CSV, PARQUET = "runs.csv", "runs.parquet"


class SweepTable:
    """The rows of all finished runs in a sweep's folder, by run id, whichever process trained them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, dict[str, Any]] = {}

    def refresh(self) -> None:
        """Read the results that are new; a damaged one is reported and left out."""
        if not self.folder.is_dir():
            return
        with os.scandir(self.folder) as entries:
            names = sorted(e.name for e in entries if e.name not in self.rows and not e.name.startswith("."))
        for name in names:
            place = self.folder / name
            if (place / RESULT).is_file():
                try:
                    self.rows[name] = read_run(place)[0]
                except DataError as error:
                    log.warning("%s", error)

    def frame(self) -> pd.DataFrame:
        """The table as pandas has it: equal to ``load_results(folder)``."""
        return framed([self.rows[name] for name in sorted(self.rows)])

    def write(self, parquet: bool = False) -> None:
        """Write ``runs.csv``, at the end also ``runs.parquet``.

        Raises:
            WriteError: the disk is full or read-only; the former files are then still there.
        """
        table = self.frame()
        write_file(self.folder / CSV, table.rename(columns=table_cell).map(table_cell).to_csv(index=False))
        if parquet:
            content = io.BytesIO()
            table.to_parquet(content, index=False)
            write_file(self.folder / PARQUET, content.getvalue())
