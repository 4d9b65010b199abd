"""Scans are evaluated after the choice of their users, which happens once."""

from common.remarks import Remarks, Unknown
from repo.engine.scan_evaluation import ChoiceEvaluation, united
from repo.engine.user_choice import UserChoice


class FakeEvaluation:
    """An evaluation that counts its calls."""

    calls = 0

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, checkpoint: object) -> Remarks:
        FakeEvaluation.calls += 1
        return Remarks(unknown=Unknown([self._name], []))


def test_users_are_chosen_once() -> None:
    pending = [FakeEvaluation("a"), FakeEvaluation("b")]
    choice = ChoiceEvaluation(UserChoice([]), pending)  # type: ignore[arg-type]
    for _ in range(2):
        choice.run(lambda: None)
    assert FakeEvaluation.calls == 2
    assert choice.size == 0
    assert united(choice.unknown) == Unknown(["a", "b"], [])


def test_unknown_names_of_all_scans_are_listed_once() -> None:
    parts = [Unknown(["b", "a"], ["x"]), None, Unknown(["a"], ["w"])]
    assert united(parts) == Unknown(["a", "b"], ["w", "x"])
    assert united([None, Unknown([], [])]) is None
