import numpy as np
import pytest
import torch

from components.experts.networks.graph_attention import (
    FROM_RETURNS,
    PEERS,
    GraphLayer,
    TemperedAttention,
    blocked,
    bounded_temperature,
    edge_names,
    make_graph,
    peer_shares,
    return_edges,
)

# Shapes: S stocks, L bars, P edge features, H heads.


def one_day(returns_SL, sector_S, industry_S=None, begun_SL=None, sectors=3, industries=4):
    """The graph of one day without empty slots."""
    returns_DSL = None if returns_SL is None else torch.tensor(returns_SL, dtype=torch.float32)[None]
    stocks = len(sector_S)
    begun_DSL = (
        torch.ones(1, stocks, 1 if returns_SL is None else returns_DSL.shape[2], dtype=torch.bool)
        if begun_SL is None
        else torch.tensor(begun_SL)[None]
    )
    industry_DS = torch.tensor([industry_S if industry_S is not None else [0] * stocks])
    return make_graph(
        torch.ones(1, stocks, dtype=torch.bool),
        torch.tensor([sector_S]),
        industry_DS,
        sectors,
        industries,
        returns_DSL,
        begun_DSL,
    )


def test_edge_features_by_hand():
    # Two of sector 1 move alike, one of sector 2 twice as far the other way: the mean over the stocks is 0,
    # so returns are their own residuals.
    graph = one_day([[2, -2, 0, 0, 0], [2, -2, 0, 0, 0], [-4, 4, 0, 0, 0]], [1, 1, 2], [1, 2, 3])
    found = dict(zip(edge_names(True), graph.edges_DPSS[0, :-1], strict=True))
    # Standard deviations sqrt(8 / 5) and sqrt(32 / 5): 1 to 2. The sector's mean leaves nothing of its
    # members.
    expected = {
        "same_sector": [[1, 1, 0], [1, 1, 0], [0, 0, 1]],
        "same_industry": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "residual_correlation": [[1, 1, -1], [1, 1, -1], [-1, -1, 1]],
        "sector_residual_correlation": [[0, 0, 0]] * 3,
        "volatility_similarity": [[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]],
        "sector_co_movement": [[1, 1, -1], [1, 1, -1], [-1, -1, 1]],
    }
    for name, values in expected.items():
        torch.testing.assert_close(
            found[name],
            torch.tensor(values, dtype=torch.float32),
            msg=lambda text, name=name: f"{name}: {text}",
        )


def slow_edges(returns_SL, begun_SL, sector_S):
    """Every pair by itself, in NumPy."""
    stocks = len(returns_SL)
    residual = np.full(returns_SL.shape, np.nan)
    of_sector, sector_mean = residual.copy(), residual.copy()
    for bar in range(returns_SL.shape[1]):
        here = np.flatnonzero(begun_SL[:, bar])
        residual[here, bar] = returns_SL[here, bar] - returns_SL[here, bar].mean()
    for stock in range(stocks):
        for bar in range(returns_SL.shape[1]):
            members = [
                other
                for other in range(stocks)
                if begun_SL[other, bar] and sector_S[other] == sector_S[stock] != 0
            ]
            if members:
                sector_mean[stock, bar] = residual[members, bar].mean()
        of_sector[stock] = residual[stock] - np.where(np.isnan(sector_mean[stock]), 0, sector_mean[stock])

    def unit(series):
        centred = np.where(np.isnan(series), 0, series - np.nanmean(series))
        return centred / max(np.sqrt((centred**2).sum()), 1e-6)

    deviation = [np.std(returns_SL[stock, begun_SL[stock]]) for stock in range(stocks)]
    found = np.zeros((len(FROM_RETURNS), stocks, stocks))
    for i in range(stocks):
        for j in range(stocks):
            moves = unit(residual[i]) @ unit(sector_mean[j]) if sector_S[j] else 0.0
            ratio = min(deviation[i], deviation[j]) / max(deviation[i], deviation[j])
            found[:, i, j] = (
                unit(residual[i]) @ unit(residual[j]),
                unit(of_sector[i]) @ unit(of_sector[j]),
                ratio,
                moves,
            )
    return found


def test_edge_features_are_those_of_a_slow_loop():
    generator = np.random.default_rng(3)
    returns_SL = 0.02 * generator.standard_normal((9, 12)) + 0.01 * generator.standard_normal(12)
    sector_S = np.array([1, 1, 1, 2, 2, 3, 0, 0, 2])
    begun_SL = np.arange(12) >= np.array([0, 0, 5, 0, 3, 0, 0, 9, 0])[:, None]
    graph = one_day(returns_SL.tolist(), sector_S.tolist(), begun_SL=begun_SL.tolist())
    np.testing.assert_allclose(
        graph.edges_DPSS[0, 2:-1], slow_edges(returns_SL, begun_SL, sector_S), atol=2e-6
    )


def test_what_a_symbol_did_before_its_first_bar_does_not_count():
    returns_SL = np.random.default_rng(0).standard_normal((4, 6))
    begun_SL = np.ones((4, 6), dtype=bool)
    begun_SL[2, :3] = False
    other = returns_SL.copy()
    other[2, :3] += 100
    graphs = [
        one_day(values.tolist(), [1, 1, 2, 2], begun_SL=begun_SL.tolist()) for values in (returns_SL, other)
    ]
    assert torch.equal(graphs[0].edges_DPSS, graphs[1].edges_DPSS)


def test_unknown_sectors_get_no_flags_and_no_returns_leave_flags_alone():
    graph = one_day(None, [0, 0, 1, 1], [0, 2, 2, 0])
    assert graph.edges_DPSS.shape[1] - 1 == len(edge_names(False)) == 2
    expected = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.float32)
    torch.testing.assert_close(graph.edges_DPSS[0, 0], expected)
    assert graph.sector_DSC[0, :2, 0].tolist() == [1, 1]


def test_stocks_that_do_not_move_give_finite_edges():
    edges = return_edges(torch.zeros(1, 3, 4), torch.ones(1, 3, 4), torch.eye(3)[None])
    assert torch.stack(edges).eq(0).all()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_temperature_stays_in_its_bounds_whatever_the_gradient(sign):
    attention = TemperedAttention(4, 2)
    assert attention.temperature().tolist() == [1.0, 1.0]
    optimiser = torch.optim.SGD([attention.temperature_gate_H], lr=1e6)
    for _ in range(5):
        optimiser.zero_grad()
        (sign * 1e6 * attention.temperature_gate_H.sum()).backward()
        optimiser.step()
    assert attention.temperature_gate_H.abs().min() > 1e11
    assert attention.temperature().tolist() == [0.5 if sign > 0 else 2.0] * 2
    between = bounded_temperature(torch.linspace(-50, 50, 1001))
    assert between.min() >= 0.5
    assert between.max() <= 2
    assert between.diff().min() >= 0


def test_attention_by_hand():
    attention = TemperedAttention(1, 1)
    with torch.no_grad():
        for layer, weights in (
            (attention.query, [1.0]),
            (attention.key_value, [1.0, 1.0]),
            (attention.output, [1.0]),
        ):
            layer.weight.copy_(torch.tensor(weights)[:, None])
            if layer.bias is not None:
                layer.bias.zero_()
        attention.temperature_gate_H.fill_(100.0)
    asking, giving = torch.tensor([[[1.0]]]), torch.tensor([[[0.0], [2.0], [50.0]]])
    bias = torch.tensor([0.0, 0.5, 9.0]) + blocked(torch.tensor([[[[True, True, False]]]]))
    heard, weights = attention(asking, giving, bias, torch.ones(1, 1))
    # Scores 0 and 2 at temperature 2 are 0 and 1, with their bias 0 and 1.5; the third may not speak.
    second = np.exp(1.5) / (1 + np.exp(1.5))
    np.testing.assert_allclose(weights.detach().flatten(), [1 - second, second, 0], atol=1e-6)
    assert heard.item() == pytest.approx(2 * second)
    assert attention(asking, giving, bias, torch.zeros(1, 1))[0].item() == 0.0


def test_nobody_listens_to_itself_and_one_stock_alone_hears_no_peer():
    layer = GraphLayer(4, 2, 2, 0.0)
    graph = one_day(None, [1, 1, 2], [1, 1, 3])
    _, weights = layer(torch.randn(1, 3, 4), graph)
    assert not weights.diagonal(dim1=2, dim2=3).any()
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(1, 2, 3))
    alone = one_day(None, [1])
    heard, weights = layer.hear(torch.randn(1, 1, 4), alone)
    assert not heard.any()
    assert not peer_shares(weights, alone).any()
    assert layer(torch.randn(1, 1, 4), alone)[0].isfinite().all()


def test_edge_weights_move_attention_to_the_peers_they_favour():
    layer = GraphLayer(4, 2, 2, 0.0)
    graph = one_day(None, [1, 1, 1, 2, 2, 0], [1, 1, 2, 3, 3, 0])
    with torch.no_grad():
        layer.peers.query.weight.zero_()
        layer.peers.query.bias.zero_()
        layer.edge_bias_HP.zero_()
        even = peer_shares(layer(torch.randn(1, 6, 4), graph)[1], graph)[0]
        layer.edge_bias_HP.copy_(torch.tensor([[0.0, 30.0], [0.0, 30.0]]))
        favoured = peer_shares(layer(torch.randn(1, 6, 4), graph)[1], graph)[0]
    # Without scores everybody listens evenly to five others.
    expected = torch.tensor([[1, 1, 3], [1, 1, 3], [0, 2, 3], [1, 0, 4], [1, 0, 4], [0, 0, 5]]) / 5
    torch.testing.assert_close(even, expected)
    assert PEERS == ("same_industry", "same_sector", "other_sector")
    torch.testing.assert_close(
        favoured, torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0.4, 0.6], [1, 0, 0], [1, 0, 0], [0, 0, 1]])
    )


def test_empty_slots_neither_give_nor_receive():
    torch.manual_seed(0)
    layer = GraphLayer(6, 2, 6, 0.0).eval()
    with torch.no_grad():
        layer.edge_bias_HP.normal_()
    x, returns = torch.randn(1, 5, 6), torch.randn(1, 5, 7)
    sector, industry, begun = (
        torch.tensor([[1, 2, 2, 0, 1]]),
        torch.tensor([[1, 2, 3, 0, 1]]),
        torch.ones(1, 5, 7, dtype=torch.bool),
    )
    alone, _ = layer(
        x, make_graph(torch.ones(1, 5, dtype=torch.bool), sector, industry, 3, 4, returns, begun)
    )
    # The empty slots hold values, as if something had written there.
    wide = [
        torch.cat([part, torch.full_like(part[:, :3], fill)], dim=1)
        for part, fill in ((x, 9), (returns, 5), (sector, 1), (industry, 2), (begun, True))
    ]
    filled = torch.tensor([[True] * 5 + [False] * 3])
    graph = make_graph(filled, wide[2], wide[3], 3, 4, wide[1], wide[4])
    padded, weights = layer(wide[0], graph)
    torch.testing.assert_close(padded[:, :5], alone, atol=1e-6, rtol=1e-5)
    assert not layer.hear(wide[0], graph)[0][:, 5:].any()
    assert not weights[:, :, :5, 5:].any()
    unmasked, _ = layer(
        wide[0], make_graph(torch.ones_like(filled), wide[2], wide[3], 3, 4, wide[1], wide[4])
    )
    assert (unmasked[:, :5] - alone).abs().max() > 1e-3


def test_the_temperature_softens_the_edges_too():
    layer = GraphLayer(4, 2, 2, 0.0)
    graph = one_day(None, [1, 1, 2])
    with torch.no_grad():
        layer.peers.query.weight.zero_()
        layer.peers.query.bias.zero_()
        layer.peers.temperature_gate_H.copy_(torch.tensor([100.0, -100.0]))
    _, weights = layer.hear(torch.randn(1, 3, 4), graph)
    # The flag weighs 1 at first, over temperatures 2 and 0.5; the other sector's score is 0.
    expected = [1 / (1 + np.exp(-1 / 2)), 1 / (1 + np.exp(-1 / 0.5))]
    np.testing.assert_allclose(weights[0, :, 0, 1].detach(), expected, atol=1e-6)


@pytest.mark.parametrize(("level", "reached"), [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2, 3, 4])])
def test_industry_sector_and_market_reach_their_members(level, reached):
    torch.manual_seed(0)
    layer, graph = GraphLayer(4, 2, 2, 0.0), one_day(None, [1, 1, 1, 2, 0], [1, 1, 2, 3, 0])
    with torch.no_grad():
        # Peers and the attention among sectors are silent, and one of the three levels alone is listened to.
        layer.peers.output.weight.zero_()
        layer.groups.output.weight.zero_()
        layer.above.weight.view(4, 3, 4)[:, [part for part in range(3) if part != level]] = 0
        x = torch.randn(1, 5, 4)
        other = x.clone()
        other[0, 0] *= -1
        moved = (layer(other, graph)[0] - layer(x, graph)[0])[0].abs().amax(dim=1) > 1e-6
    assert moved.nonzero().flatten().tolist() == reached


def test_sectors_hear_each_other():
    torch.manual_seed(0)
    layer, graph = GraphLayer(4, 2, 2, 0.0), one_day(None, [1, 1, 2])
    with torch.no_grad():
        layer.peers.output.weight.zero_()
        layer.above.weight.view(4, 3, 4)[:, [0, 2]] = 0
        x = torch.randn(1, 3, 4)
        other = x.clone()
        other[0, 0] *= -1
        assert (layer(other, graph)[0] - layer(x, graph)[0])[0, 2].abs().max() > 1e-6
