"""What a person is told of a journal that is not delivered."""

from __future__ import annotations

from fm_mlflow.errors import TrackingError
from fm_mlflow.tracking.outbox.delivery import Delivery
from fm_mlflow.tracking.outbox.roots import sync_command


def what_is_pending(delivery: Delivery, reason: TrackingError | None) -> str:
    """Say in one line what of a journal the store does not have, why, and what to do."""
    journal, state = delivery.journal, delivery.journal.state
    texts = []
    if delivery.pending:
        why = str(reason) if reason else next(iter([*state.deferred.values()]), "no time was left")
        texts.append(
            f"{delivery.pending} records of run {state.run_id or journal.journal_id} are not in "
            f"the store yet; `{sync_command()}` delivers them from {journal.folder} ({why})"
        )
    if state.refused:
        number, why = next(iter([*state.refused.items()]))
        texts.append(
            f"{len(state.refused)} records of run {state.run_id} were refused by the store, first "
            f"record {number}: {why}; they are kept in {journal.folder}"
        )
    if journal.damaged:
        texts.append(
            f"{journal.damaged} records of {journal.folder} cannot be read and are kept there, "
            f"first {journal.damage}"
        )
    return "; ".join(texts)
