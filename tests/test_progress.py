"""What is said of work that takes long."""

import time

from genzoo.progress import said_when_long


def test_long_work_is_said_once_with_its_options_and_short_work_is_not(caplog):
    caplog.set_level("INFO")
    with said_when_long("metrics/kid", {"name": "kid", "num_subsets": 7}, seconds=0.05):
        time.sleep(0.3)
    assert caplog.messages == ["metrics/kid takes more than 0.05 s (num_subsets: 7)"]
    with said_when_long("metrics/kid", {}, seconds=0.2):
        pass
    time.sleep(0.3)
    assert len(caplog.messages) == 1
