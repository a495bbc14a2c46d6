"""The training loop: against a plain loop written out, early stopping, averages, accumulation, progress,
logs, and losses that are not finite.
"""

import copy
import math

import numpy as np
import pytest
import torch

from components.experts.errors import ExpertError, Stopped
from components.experts.neural import engine
from components.experts.neural.config import Losses, Optimiser, Training
from components.experts.neural.optim import rate
from components.experts.neural.panel import epoch_batches
from tests.experts.neural.training_parts import (
    LOOKBACK,
    Squares,
    labelled,
    model,
    panel,
    run,
    silent,
    supervised,
)

BATCHES = 5


def trained(
    network,
    objective,
    windows,
    *,
    monitor=None,
    advance=silent,
    log=None,
    seed=1,
    whole_days=False,
    training=None,
    optimiser=None,
):
    settings = {"epochs": 2, "batch_windows": 100, **(training or {})}
    return engine.train(
        engine.Job(network, objective, windows, labelled(windows), seed, whole_days),
        Training(**settings),
        Optimiser(**{"learning_rate": 0.01, **(optimiser or {})}),
        engine.Watch(advance, monitor, log),
    )


def weights_of(network) -> list[torch.Tensor]:
    return [value.detach().clone() for value in network.state_dict().values()]


def equal(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_the_loop_does_what_a_plain_loop_does(accumulate):
    """Oracle: gradients of the mean of the group's losses by autograd at once, Adam by the book (Kingma and
    Ba 2015), decay as in the settings.
    """
    windows = panel()
    settings = Optimiser(learning_rate=0.01, clip_norm=0.5, weight_decay=0.0)
    with engine.reproducible(3, 1):
        network = model()
        plain = copy.deepcopy(network).train()
        history = trained(
            network,
            Squares(windows),
            windows,
            training={"accumulate_batches": accumulate},
            optimiser=settings.model_dump(),
        )
    objective, losses, step = Squares(windows), [], 0
    groups = math.ceil(BATCHES / accumulate)
    first, second = ({name: torch.zeros_like(p) for name, p in plain.named_parameters()} for _ in range(2))
    for epoch in range(2):
        drawn = epoch_batches(
            labelled(windows),
            windows.day_N,
            whole_days=False,
            batch_windows=100,
            most_windows=50_000,
            seed=1,
            epoch=epoch,
        )
        assert len(drawn) == BATCHES
        for start in range(0, BATCHES, accumulate):
            group = [
                objective.loss(plain(windows.batch(rows_B)), {"label_B": objective.label_N[rows_B]})[0]
                for rows_B in drawn[start : start + accumulate]
            ]
            losses += [(epoch, loss.item()) for loss in group]
            used = dict(plain.named_parameters())
            gradients = dict(
                zip(
                    used,
                    torch.autograd.grad(torch.stack(group).mean(), list(used.values()), allow_unused=True),
                    strict=True,
                )
            )
            gradients = {name: gradient for name, gradient in gradients.items() if gradient is not None}
            norm = float(torch.cat([gradient.flatten() for gradient in gradients.values()]).norm())
            step += 1
            with torch.no_grad():
                for name, gradient in gradients.items():
                    clipped = gradient * min(1.0, 0.5 / norm)
                    first[name] = 0.9 * first[name] + 0.1 * clipped
                    second[name] = 0.999 * second[name] + 0.001 * clipped**2
                    move = (first[name] / (1 - 0.9**step)) / (
                        (second[name] / (1 - 0.999**step)).sqrt() + 1e-8
                    )
                    used[name] -= 0.01 * rate(step - 1, 2 * groups, settings) * move
    for (name, found), wanted in zip(network.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6, msg=name)
    for epoch, entry in enumerate(history):
        assert entry["loss"] == pytest.approx(
            np.mean([loss for number, loss in losses if number == epoch]), rel=1e-5
        )
        assert entry["error"] == entry["loss"]
        assert entry["windows"] == len(labelled(windows))
        assert entry["learning_rate"] == pytest.approx(
            0.01 * rate((epoch + 1) * groups - 1, 2 * groups, settings)
        )


def test_equal_seeds_give_equal_bits_and_others_do_not():
    one, same, other = run(epochs=1), run(epochs=1), run(epochs=1, seed=2)
    assert one[1] == same[1]
    assert equal(one[0].values(), same[0].values())
    assert not equal(one[0].values(), other[0].values())


def test_every_batch_draws_anew():
    windows, drawn = panel(), []

    class Drawing(Squares):
        def prepare(self, batch, rows_B, generator):
            drawn.extend([float(torch.rand((), generator=generator)), float(torch.rand(()))])
            return super().prepare(batch, rows_B, generator)

    trained(model(), Drawing(windows), windows, training={"accumulate_batches": 2})
    assert len(set(drawn)) == len(drawn) == 2 * 2 * BATCHES


def test_the_callers_random_numbers_stay_where_they_were():
    windows = panel()
    network = model(dropout=0.5)
    torch.manual_seed(7)
    trained(network, Squares(windows, noise=0.1), windows)
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))


def test_reproducible_puts_back_the_callers_state():
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with engine.reproducible(3, threads + 1) as device:
        assert torch.get_num_threads() == threads + 1
        assert torch.are_deterministic_algorithms_enabled()
        first = torch.rand(2, device=device)
    with engine.reproducible(3, 1, deterministic=False) as device:
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.equal(first, torch.rand(2, device=device))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        ([1.0, 3.0, 2.0, 2.0, 9.0], 1, 4, 2),
        ([1.0, 3.0, 2.0, 2.0, 9.0], 2, 5, 5),
        ([1.0, 0.9], 0, 2, 1),
        ([2.0, 2.0, 2.0], 1, 3, 1),
        ([math.nan, 1.0, math.nan, 0.5], 5, 4, 2),
        ([math.nan, math.nan], 3, 2, 1),
    ],
)
def test_training_stops_when_the_monitor_gets_no_better_and_ends_with_the_best_weights(
    values, patience, epochs, best
):
    windows, network, seen, shares = panel(), model(), [], []

    def monitor() -> float:
        seen.append(weights_of(network))
        return values[len(seen) - 1]

    def advance(share: float, what: str) -> None:
        shares.append(share)

    history = trained(
        network,
        Squares(windows),
        windows,
        monitor=monitor,
        advance=advance,
        training={"epochs": len(values), "patience_epochs": patience},
    )
    assert len(history) == epochs
    assert [entry["monitor"] for entry in history] == pytest.approx(values[:epochs], nan_ok=True)
    assert not equal(seen[0], seen[1])
    assert equal(weights_of(network), seen[best - 1])
    assert not network.training
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(epochs / len(values))


def test_without_a_monitor_the_last_weights_stay():
    windows, network, seen = panel(), model(), []

    def log(step: int, values: dict) -> None:
        if "epoch" in values:
            seen.append(weights_of(network))

    history = trained(network, Squares(windows), windows, log=log, training={"patience_epochs": 0})
    assert len(history) == 2
    assert "monitor" not in history[0]
    assert equal(weights_of(network), seen[-1])


def test_the_average_of_the_weights_is_what_is_judged_and_kept():
    """The averages follow the formula of `optim.Average` over the weights after each step, which training
    without an average gives too.
    """
    decay, steps, judged = 0.6, [], []
    windows = panel()
    plain, averaged = model(), model()
    trained(
        plain,
        Squares(windows),
        windows,
        log=lambda step, values: steps.append(weights_of(plain)),
        training={"epochs": 1},
    )

    def monitor() -> float:
        judged.append(weights_of(averaged))
        return 0.0

    trained(
        averaged,
        Squares(windows),
        windows,
        monitor=monitor,
        training={"epochs": 1},
        optimiser={"average_decay": decay},
    )
    after = steps[1:]
    assert len(after) == BATCHES
    share = [decay ** (BATCHES - 1 - number) for number in range(BATCHES)]
    names = list(plain.state_dict())
    parameters = {name for name, _ in plain.named_parameters()}
    for number, name in enumerate(names):
        wanted = (
            sum(s * weights[number] for s, weights in zip(share, after, strict=True)) / sum(share)
            if name in parameters
            else after[-1][number]
        )
        torch.testing.assert_close(judged[0][number], wanted, rtol=1e-5, atol=1e-6)
    assert equal(weights_of(averaged), judged[0])
    assert not equal(weights_of(averaged), after[-1])


def test_every_step_is_logged_with_its_figures():
    windows, steps, epochs = panel(), [], []

    def log(step: int, values: dict) -> None:
        (epochs if "epoch" in values else steps).append((step, values))

    history = trained(
        model(), Squares(windows), windows, log=log, monitor=lambda: 0.25, training={"accumulate_batches": 2}
    )
    assert [step for step, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert all(set(values) == {"loss", "error", "gradient_norm", "learning_rate"} for _, values in steps)
    assert all(values["gradient_norm"] > 0 for _, values in steps)
    # Groups of 2, 2 and 1 batches.
    assert history[0]["loss"] == pytest.approx(
        np.average([values["loss"] for _, values in steps[:3]], weights=[2, 2, 1])
    )
    assert [(step, values["epoch"], values["monitor"]) for step, values in epochs] == [
        (3, 1.0, 0.25),
        (6, 2.0, 0.25),
    ]
    assert all(values["windows_per_second"] > 0 for _, values in epochs)


def test_batches_of_days_hold_whole_days():
    windows = panel(whole_days=True)
    objective = Squares(windows)
    trained(model(), objective, windows, whole_days=True, training={"epochs": 1})
    day_N, rows = windows.day_N, labelled(windows)
    for rows_B in objective.rows:
        assert np.array_equal(np.sort(rows_B), rows[np.isin(day_N[rows], day_N[rows_B])])
    assert np.array_equal(np.sort(np.concatenate(objective.rows)), rows)


def test_a_network_learns_the_planted_signal():
    windows = panel()
    network = model()
    history = trained(
        network,
        supervised(windows, Losses()),
        windows,
        training={"epochs": 12},
        optimiser={"learning_rate": 0.02},
    )
    assert set(history[0]) == {"loss", "correlation", "pinball", "penalty", "learning_rate", "windows"}
    with torch.inference_mode():
        score_B = network(windows.batch(labelled(windows))).score_BT[:, 0].numpy()
    newest_B = windows.batch(labelled(windows)).inputs_BLF[:, LOOKBACK - 1, 0].numpy()
    assert np.corrcoef(score_B, newest_B)[0, 1] > 0.8


class Planted(Squares):
    """At its batch `bad` the loss, or only its gradient, is not finite."""

    def __init__(self, windows, bad: int, what: str):
        super().__init__(windows)
        self.bad, self.what = bad, what

    def loss(self, outputs, targets):
        error, parts = super().loss(outputs, targets)
        if len(self.rows) == self.bad:
            nothing = 0 * outputs.score_BT.sum()
            error = error + (math.inf if self.what == "loss" else nothing.sqrt())
        return error, parts


@pytest.mark.parametrize(
    ("what", "said"), [("loss", "The loss is inf"), ("gradient", "The norm of the gradients is nan")]
)
def test_what_is_not_finite_ends_the_training_before_the_weights_move(what, said):
    windows, network, before = panel(), model(), []

    def log(step: int, values: dict) -> None:
        before.append(weights_of(network))

    with pytest.raises(ExpertError, match=said) as caught:
        trained(network, Planted(windows, 7, what), windows, log=log, optimiser={"learning_rate": 0.013})
    message = str(caught.value)
    assert "step 7 of about 10 (epoch 2, learning rate" in message
    assert "optimiser.learning_rate" in message
    # The last that was logged is the sixth step and before it the end of an epoch: no step follows the one
    # that failed.
    assert len(before) == 7
    assert all(bool(torch.isfinite(weight).all()) for weight in weights_of(network))


def test_a_loss_that_stays_finite_is_let_through():
    windows = panel()
    assert len(trained(model(), Planted(windows, 99, "loss"), windows)) == 2


def test_no_row_is_refused():
    windows = panel()
    with pytest.raises(ExpertError, match="no row to learn from"):
        engine.train(
            engine.Job(model(), Squares(windows), windows, np.zeros(0, dtype=np.int64), seed=0),
            Training(),
            Optimiser(),
            engine.Watch(silent),
        )


def test_who_watches_may_stop_it():
    windows = panel()

    def advance(share: float, what: str) -> None:
        if share > 0.4:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        trained(model(), Squares(windows), windows, advance=advance)


@pytest.mark.parametrize(
    ("setting", "wanted"), [("always", torch.bfloat16), ("gpu", torch.float32), ("never", torch.float32)]
)
def test_forward_passes_run_in_bfloat16_where_asked(setting, wanted):
    windows, network, seen = panel(), model(), set()
    network.network.inner.register_forward_hook(lambda module, given, made: seen.add(made.dtype))
    trained(network, Squares(windows), windows, optimiser={"bfloat16": setting})
    assert seen == {wanted}
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
