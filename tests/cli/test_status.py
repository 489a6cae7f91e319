"""``dropkit status``: what is finished, begun, failed and waiting."""

from dropkit.cli.main import main
from dropkit.study.checkpoint import Place, save
from dropkit.study.ledger import Ledger
from dropkit.study.result import Arm, Run, SiteRate


class Session:
    """As much of a session as a checkpoint's first line tells."""

    arm, seed, epoch, step = Arm("none", "", [SiteRate("1", "Dropout", 0.0)]), 1, 7, 321

    def state(self):
        return {}


def test_each_run_is_shown(tmp_path, capsys):
    arm = Session.arm
    with Ledger(tmp_path, "h", "digits", {"none": [0, 1, 2], "intended": [0, 1, 2]}) as ledger:
        run = Run("none", 0, "finished", 0.1, 0.9, 0.05, 0.95, 0.2, 0.9, 0.21, 0.3, 0.05, 0.2, 0.1, 0.01, None, {})
        ledger.add(arm, run, 1.0)
        ledger.fail(arm, 2, "MemoryError: full")
        save(Place(tmp_path, "h", "data"), Session())
        (tmp_path / "progress").mkdir()
        (tmp_path / "progress" / "1-0.jsonl").write_text("[1, 0.5]\n[2, 0.4]\n")
        (tmp_path / "progress" / "1-1.jsonl").write_text("")
        assert main(["status", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "digits: 1 of 6 runs finished",
        "  none         x ~ !",
        "  intended     ~ . .",
        "  none, seed 1: epoch 7, step 321 in its checkpoint",
        "  none, seed 2: failed: MemoryError: full",
        "  intended, seed 0: epoch 2 reached",
        "Run the same `dropkit study` command to go on.",
    ]
