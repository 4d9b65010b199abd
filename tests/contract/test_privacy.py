"""What concerns one user says so where it is declared, and everything else is derived."""

from common.questions import QUESTIONS, questions_about_one_user


def test_a_question_with_a_user_says_that_it_concerns_one() -> None:
    for question in QUESTIONS:
        if "user_id" in question.model_fields:
            assert question.concerns_one_user, (
                f"{question.__name__} must say `concerns_one_user = True`"
            )


def test_what_is_dropped_from_the_cache_is_derived() -> None:
    assert questions_about_one_user() == ["user_events", "user_profile", "users"]
