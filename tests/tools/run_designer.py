"""Data Designer (PyPI) has each question varied, then solved: `python run_designer.py QUESTIONS URL COUNT`.

For an environment of its own with `data-designer` installed. QUESTIONS is a file of `{"prompt": ...}` lines, gzip or
not; each row takes two requests, the second with the answer to the first in it, so COUNT requests are COUNT / 2 rows.
"""

import gzip
import json
import sys
import tempfile
from pathlib import Path

import data_designer.config as dd
import pandas as pd
from data_designer.interface import DataDesigner


def main(questions: Path, url: str, count: int) -> None:
    opened = gzip.open if questions.suffix == ".gz" else open
    with opened(questions, "rt") as file:
        prompts = [json.loads(line)["prompt"] for line in file]
    model = dd.ModelConfig(alias="teacher", model="large-2", provider="tool")
    harvest = dd.DataDesignerConfigBuilder(model_configs=[model])
    harvest.with_seed_dataset(dd.DataFrameSeedSource(df=pd.DataFrame({"seed": prompts})))
    for name, prompt in (
        ("question", "Write another problem of the same kind, with other numbers and names: {{ seed }}"),
        ("solution", "Solve this problem and show your work: {{ question }}"),
    ):
        harvest.add_column(dd.LLMTextColumnConfig(name=name, prompt=prompt, model_alias="teacher"))
    provider = dd.ModelProvider(name="tool", endpoint=url, api_key="tool")
    with tempfile.TemporaryDirectory() as folder:
        DataDesigner(artifact_path=folder, model_providers=[provider]).create(harvest, num_records=count // 2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
