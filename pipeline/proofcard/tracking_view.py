"""The saved view of the runs that links open: a row for each checkpoint, columns for its headline numbers.

MLflow keeps saved views as tags of an experiment. Without one its table shows no metric at all.
"""

import base64
import json
import zlib
from typing import Any

KEY = "headlines"
_TAG = f"mlflow.sharedViewState.{KEY}"
_WIDTHS = {  # of MLflow's columns, in pixels
    "0": 73, "attributes.`Run Name`": 200, "runDateAndNestInfo": 130, "duration": 70
}  # fmt: skip
_NUMBERS = {
    "weights_proved": 125, "known_answers": 118, "kl_w4a4_kv": 100, "top1_agreement": 128, "ppl_ratio": 85,
    "tokens_per_s": 105, "task_recovery": 118, "size_gb": 85,
}  # fmt: skip
_COLUMNS = {f"metrics.`{name}`": width for name, width in _NUMBERS.items()} | {"attributes.`Models`": 110}
_STATE = {
    "searchFilter": "", "orderByKey": "attributes.start_time", "orderByAsc": False, "startTime": "ALL",
    "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
    "selectedColumns": list(_COLUMNS), "columnOrder": [*_WIDTHS, *_COLUMNS],
    "columnWidths": _WIDTHS | _COLUMNS,
    "runsHiddenMode": "FIRST_10_RUNS", "viewMaximized": False, "runListHidden": False,
    "isAccordionReordered": False, "useGroupedValuesInCharts": True, "hideEmptyCharts": True, "groupBy": None,
    "groupsExpanded": {},
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
}  # fmt: skip
_MADE = 1_795_737_600_000  # milliseconds: a time of its own would make the tag another one each time


def tags() -> dict[str, str]:
    """The experiment's tags: the view, and that it has runs to show, not traces of a chat program."""
    packed = base64.b64encode(zlib.compress(json.dumps(_STATE).encode())).decode()
    view = {"name": "Headline numbers", "createdAt": _MADE, "updatedAt": _MADE, "state": f"deflate;{packed}"}
    return {_TAG: json.dumps(view), "mlflow.experimentKind": "custom_model_development"}


def ensure(client: Any, experiment: Any) -> None:
    """Give an experiment the tags that it lacks; a view that somebody has changed is left alone."""
    for name, value in tags().items():
        if name not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, name, value)
