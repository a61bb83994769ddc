"""The choice of n_neighbors, reg and the dimension: against truths that the choice does not see."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.sparse import csr_array
from sklearn.datasets import load_digits, make_blobs, make_swiss_roll
from sklearn.exceptions import ConvergenceWarning

import lle_gpu
from lle_gpu import (
    DisconnectedGraphError,
    LocallyLinearEmbedding,
    intrinsic_dimension,
    select_n_neighbors,
    select_reg,
)
from lle_gpu.datasets import load
from lle_gpu.metrics import affine_residual, neighborhood_preservation
from lle_gpu.neighbors.cpu import NeighborSearch
from lle_gpu.selection import criteria, dimension, parameters
from lle_gpu.selection.criteria import Judge, instability


def neighbors(X, k):
    distance, index = NeighborSearch(X, k).kneighbors()
    return index, distance


def turned(Z, n_features=20, seed=0):
    rng = np.random.default_rng(seed)
    return Z @ np.linalg.qr(rng.standard_normal((n_features, n_features)))[0][: Z.shape[1]]


def sphere(d, n, seed=0):
    Z = np.random.default_rng(seed).standard_normal((n, d + 1))
    return turned(Z / np.linalg.norm(Z, axis=1, keepdims=True))


def pieces(*sizes):
    """Bent squares, each far from the others."""
    rng = np.random.default_rng(0)
    flat = [rng.uniform(-1, 1, (n, 2)) for n in sizes or (180, 150)]
    bent = [np.column_stack([Z + 9 * i, (Z**2).sum(axis=1)]) for i, Z in enumerate(flat)]
    return np.concatenate(bent)


def residuals(X, truth, ks, **parameters_):
    return {
        k: affine_residual(
            LocallyLinearEmbedding(n_neighbors=k, device="cpu", **parameters_).fit_transform(X),
            truth,
        )
        for k in ks
    }


@pytest.fixture(scope="module")
def roll():
    return load("swiss-roll", 1000, random_state=1)


@pytest.fixture(scope="module")
def choice(roll):
    return select_n_neighbors(roll.X, candidates=[7, 10, 14, 40], device="cpu")


@pytest.fixture(scope="module")
def flat():
    """Points of a rectangle, and Judge over them."""
    X = np.random.default_rng(0).uniform(size=(600, 2)) * [3, 1]
    index, distance = neighbors(X, 20)
    return X, Judge(index, distance)


class TestJudge:
    def test_affine_images_of_the_plane_are_perfect(self, flat):
        X, judge = flat
        for A in (np.eye(2), [[2.0, 1.0], [0.0, 30.0]]):
            residual, kept = judge(X @ A)
            assert residual < 0.01  # paths in a graph are a little longer than straight lines
            assert kept > 0.97

    def test_bent_and_random_images_are_not(self, flat):
        X, judge = flat
        bent = np.column_stack([X[:, 0] ** 4, X[:, 1]])
        noise = np.random.default_rng(1).normal(size=X.shape)
        perfect = judge(X)[0]
        for Y, most in ((bent, 0.9), (noise, 0.1)):
            assert judge(Y)[0] > 10 * perfect
            assert judge(Y)[1] < most
        assert judge(np.zeros_like(X))[0] == 1.0

    def test_residual_by_its_definition(self, flat):
        """Against a dense solution, with shortest paths by Floyd and Warshall."""
        from scipy.sparse.csgraph import floyd_warshall

        X, _ = flat
        X = X[:80]
        index, distance = neighbors(X, 12)
        judge = Judge(index, distance)
        edges = np.full((80, 80), np.inf)
        rows = np.arange(80)[:, None]
        edges[rows, index[:, :8]] = distance[:, :8]
        along = floyd_warshall(np.minimum(edges, edges.T), directed=False)
        Y = np.column_stack([X[:, 0] ** 2, X[:, 1] + X[:, 0]])
        i, j = np.nonzero(along[judge._landmarks] > 0)
        delta = along[judge._landmarks][i, j]
        D = Y[judge._landmarks[i]] - Y[j]
        terms = np.column_stack([D[:, 0] ** 2, 2 * D[:, 0] * D[:, 1], D[:, 1] ** 2])
        weighted = terms / delta[:, None] ** 2
        a, b, c = np.linalg.solve(weighted.T @ weighted, weighted.sum(axis=0))
        length = np.sqrt(np.einsum("ni,ij,nj->n", D, np.array([[a, b], [b, c]]), D))
        expected = 1 - np.corrcoef(length, delta)[0, 1] ** 2
        assert judge(Y)[0] == pytest.approx(expected, rel=1e-6)

    def test_preservation_by_its_definition(self, flat):
        X, _ = flat
        X = X[:90]
        index, distance = neighbors(X, 20)
        judge = Judge(index, distance)
        Y = X + 0.1 * np.random.default_rng(2).normal(size=X.shape)
        by_hand = [
            len(set(a) & set(b)) / 20
            for a, b in zip(neighbors(X, 20)[0], neighbors(Y, 20)[0], strict=True)
        ]
        assert judge._preservation(Y) == pytest.approx(np.mean(by_hand))
        assert judge._preservation(Y) == pytest.approx(
            float(neighborhood_preservation(X, Y, n_neighbors=20))
        )

    def test_pieces_and_duplicates(self):
        rng = np.random.default_rng(0)
        X = rng.uniform(size=(150, 2))
        X = np.concatenate([X, X[:50], X + 1000])  # copies, and another piece
        index, distance = neighbors(X, 12)
        residual, kept = Judge(index, distance)(X)
        assert residual < 0.05
        assert kept > 0.9

    @pytest.mark.parametrize(("distinct", "copies"), [(100, 10), (30, 45), (3, 50)])
    def test_many_copies(self, distinct, copies):
        """Copies are one point: what is near and along is that of the distinct ones."""
        rng = np.random.default_rng(0)
        X = rng.uniform(size=(distinct, 2))
        repeated = np.repeat(X, copies, axis=0)
        residual, kept = Judge(*neighbors(repeated, 40))(repeated)
        assert 0 <= kept <= 1
        if copies < 40:
            assert residual < 0.1
        else:
            assert residual == 1.0  # every neighbour is a copy

    def test_copies_change_no_distance_along_the_graph(self):
        X = np.random.default_rng(0).uniform(size=(120, 2))
        graph, place = criteria._nearest_graph(*neighbors(X, 8))
        np.testing.assert_array_equal(place, np.arange(120))
        twice, place = criteria._nearest_graph(*neighbors(np.repeat(X, 3, axis=0), 40))
        order = place[::3]
        np.testing.assert_array_equal(place, np.repeat(order, 3))
        dense = twice.toarray()[np.ix_(order, order)]
        np.testing.assert_allclose(dense, graph.toarray(), atol=1e-12)

    def test_nearly_copies_do_not_underflow(self):
        X = np.random.default_rng(0).uniform(size=(40, 2)) * 1e-170
        assert np.isfinite(Judge(*neighbors(X, 10))(X * 1e170)).all()


def test_instability_is_an_angle():
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 4)))[0]
    a, b = Q[:, :2], Q[:, 2:]
    assert instability(a, a[:, ::-1] * [1, -1]) == pytest.approx(0, abs=1e-7)
    assert instability(a, b) == pytest.approx(1)
    turned_by = 0.3
    mixed = np.cos(turned_by) * a + np.sin(turned_by) * b
    assert instability(a, mixed) == pytest.approx(np.sin(turned_by))


class TestLongEdges:
    def test_share_on_two_sheets(self):
        """Two parallel lines: the path from one to the other leads around their end."""
        t = np.arange(300) * 1.0
        one = np.column_stack([t, np.zeros(300)])
        other = np.column_stack([t + 0.37, np.full(300, 12.3)])
        end = np.column_stack([np.full(12, -1.0), np.arange(12.0)])
        X = np.concatenate([one, other, end])
        index, distance = neighbors(X, 40)
        share, looked_at = Judge(index, distance).long_edges()
        assert share.shape == (40,)
        assert looked_at == 612
        assert (share[:11] == 0).all()  # at the free ends 12 neighbours are nearer
        # From a point at t to the same place on the other line it is 2 t + 14 along the data.
        inner = np.arange(600)
        inner = inner[inner % 300 > 17]
        across = (index[inner] < 300) != (inner < 300)[:, None]
        assert share[-1] == pytest.approx(across.sum() / (40 * 612), rel=0.1)

    def test_one_edge_is_enough(self, roll):
        """The first edge across, among 1,000 points' as among few."""
        index, distance = neighbors(roll.X, 20)
        share, _ = Judge(index, distance).long_edges()
        turn = roll.truth[:, np.ptp(roll.truth, axis=0).argmax()]
        far = np.abs(turn[index] - turn[:, None]) > 6 * distance
        assert far.any()
        assert int(np.argmax(share > 0)) == int(far.any(axis=0).argmax())

    def test_points_are_sampled_if_there_are_many(self, flat, monkeypatch):
        monkeypatch.setattr(criteria, "EDGE_SAMPLE", 100)
        share, looked_at = flat[1].long_edges()
        assert looked_at == 100
        assert (share == 0).all()

    def test_pieces(self):
        X = np.random.default_rng(0).uniform(size=(60, 2))
        X = np.concatenate([X, X[:9] + 50, X[:9] + 90])
        share, _ = Judge(*neighbors(X, 20)).long_edges()
        assert share[7] == 0  # the 8 nearest of nine are in the piece
        assert share[8] == pytest.approx(18 / 78 / 9)

    @pytest.mark.parametrize("d", [1, 2, 5])
    def test_none_on_a_cube(self, d):
        X = np.random.default_rng(0).uniform(size=(500, d))
        assert (Judge(*neighbors(X, 40)).long_edges()[0] == 0).all()


class TestSelectNNeighbors:
    def test_table(self, choice):
        table = choice.table
        assert next(iter(table)) == "n_neighbors"
        np.testing.assert_array_equal(table["n_neighbors"], [7, 10, 14, 40])
        assert {column.shape for column in table.values()} == {(4,)}
        assert table["converged"].dtype == bool
        assert np.isnan(table["instability"][0])
        assert (table["instability"][1:] > 0).all()

    def test_columns_are_the_estimators(self, roll, choice):
        """The same embedding as fit's, and what can be had of it."""
        before = None
        for i, k in enumerate(choice.table["n_neighbors"]):
            model = LocallyLinearEmbedding(n_neighbors=int(k), device="cpu").fit(roll.X)
            assert choice.table["reconstruction_error"][i] == pytest.approx(
                model.reconstruction_error_, rel=1e-3
            )
            assert choice.table["null_vectors"][i] == model.spectrum_.n_null
            if before is not None:
                assert choice.table["instability"][i] == pytest.approx(
                    instability(model.embedding_, before), abs=1e-2
                )
            before = model.embedding_

    def test_choice_is_near_the_best(self, roll, choice):
        found = residuals(roll.X, roll.truth, choice.table["n_neighbors"])
        assert choice.criterion == "distance_residual"
        assert found[choice.recommended] <= min(found.values()) + 0.02
        assert choice.recommended < 40

    def test_short_circuits_are_warned_about(self, choice):
        (said,) = [text for text in choice.warnings if "short circuits" in text]
        assert "among those of 1000 points" in said
        long = choice.table["long_edges"]
        assert long[0] == 0 < long[-1]

    @pytest.mark.parametrize("method", ["modified", "ltsa", "hessian"])
    def test_other_methods(self, roll, method):
        found = select_n_neighbors(
            roll.X, method=method, candidates=[8, 10, 40], device="cpu", n_jobs=1
        )
        assert found.recommended < 40
        found_residuals = residuals(roll.X, roll.truth, (8, 10), method=method)
        assert found_residuals[found.recommended] < 0.05

    @pytest.mark.parametrize("name", ["swiss-hole", "s-curve"])
    def test_default_candidates(self, name):
        data = load(name, 1000, random_state=0)
        found = select_n_neighbors(data.X, method="ltsa", device="cpu")
        ks = found.table["n_neighbors"]
        assert ks[0] >= 6
        assert ks[-1] <= 40
        beside = parameters.OVERHEAD + parameters.SETUP / 1000
        assert ((ks + beside) ** 2).sum() <= parameters.EFFORT * (40 + beside) ** 2
        assert len(ks) > 4  # it went on beside the best
        reached = residuals(data.X, data.truth, (7, 10, 14), method="ltsa")
        chosen = residuals(data.X, data.truth, [found.recommended], method="ltsa")
        assert chosen[found.recommended] <= min(reached.values()) + 0.01

    @pytest.mark.parametrize("seed", [7, 17])
    def test_what_must_not_be_chosen_guides_the_search(self, seed):
        """Good embeddings lie between one with null vectors and folded ones."""
        data = load("swiss-roll", 1000, random_state=seed)
        found = select_n_neighbors(data.X, method="ltsa", device="cpu")
        chosen = residuals(data.X, data.truth, [found.recommended], method="ltsa")
        assert chosen[found.recommended] < 0.02

    def test_search_by_its_rules(self, monkeypatch):
        """Made-up figures: k = 6 and 8 are the best, but have null vectors; 10 is the best left."""
        X = np.random.default_rng(0).uniform(size=(2000, 2))
        asked = []

        def made_up(self, k, reg):
            asked.append(k)
            residual = 0.01 + 0.001 * abs(k - 8) if k < 12 else 0.5
            return parameters._Trial(np.eye(2), residual, 0.3 + k / 100, 0.0, 1 + (k < 10), True)

        monkeypatch.setattr(parameters._Trials, "_embed", made_up)
        found = select_n_neighbors(X, method="ltsa", device="cpu")
        assert asked[:5] == [8, 17, 34, 12, 10]
        assert found.recommended == 10
        assert sum((k + 25) ** 2 for k in asked) <= parameters.EFFORT * 65**2

        def rising(self, k, reg):
            return parameters._Trial(np.eye(2), 0.5, k / 100, 0.0, 1, True)

        monkeypatch.setattr(parameters._Trials, "_embed", rising)
        for method in ("standard", "ltsa"):
            found = select_n_neighbors(X, method=method, device="cpu")
            assert found.recommended == found.table["n_neighbors"][-1] > 25

    def test_where_few_neighbours_leave_pieces(self):
        """Cliques of 20: the first candidates do not hold them together, the largest does."""
        rng = np.random.default_rng(0)
        X = np.repeat(rng.uniform(size=(12, 2)), 20, axis=0) + 1e-3 * rng.normal(size=(240, 2))
        found = select_n_neighbors(X, device="cpu")
        assert found.table["n_neighbors"][-1] == 40
        assert found.recommended > 17

    def test_labels_are_kept_where_no_manifold_is_found(self):
        from sklearn.model_selection import cross_val_score
        from sklearn.neighbors import KNeighborsClassifier

        X, y = load_digits(return_X_y=True)
        X, y = X[:800], y[:800]
        found = select_n_neighbors(X, candidates=[7, 14, 40], device="cpu")
        accuracy = {
            k: cross_val_score(
                KNeighborsClassifier(), LocallyLinearEmbedding(n_neighbors=k).fit_transform(X), y
            ).mean()
            for k in (7, 14, 40)
        }
        assert found.criterion == "neighborhood_preservation"
        assert accuracy[found.recommended] >= 0.9 * max(accuracy.values())
        assert found.table["distance_residual"].min() > parameters.FOUND

    def test_closed_classes_are_avoided_and_named(self):
        """A clique of 7 is closed for k <= 6, and far away."""
        rng = np.random.default_rng(0)
        X = np.concatenate([rng.uniform(size=(300, 2)), 3 + 1e-3 * rng.uniform(size=(7, 2))])
        found = select_n_neighbors(X @ [[1, 0, 1], [0, 1, 1]], candidates=[6, 10], device="cpu")
        np.testing.assert_array_equal(found.table["null_vectors"], [2, 1])
        assert found.recommended == 10
        assert [text for text in found.warnings if "closed classes" in text and "6" in text]
        all_closed = select_n_neighbors(X @ [[1, 0, 1], [0, 1, 1]], candidates=[6], device="cpu")
        assert all_closed.recommended == 6
        assert any("recommended value is one of them" in text for text in all_closed.warnings)

    @pytest.mark.parametrize("method", ["standard", "ltsa"])
    @pytest.mark.parametrize("disconnected", ["bridge", "largest"])
    def test_pieces_are_mended_as_fit_mends_them(self, method, disconnected):
        X, ks = pieces(), (8, 12)
        found = select_n_neighbors(
            X, method=method, candidates=ks, disconnected=disconnected, device="cpu"
        )
        judge, before = Judge(*neighbors(X, 12)), None
        for i, k in enumerate(ks):
            model = LocallyLinearEmbedding(
                n_neighbors=k, method=method, disconnected=disconnected, device="cpu"
            ).fit(X)
            assert found.table["null_vectors"][i] == model.spectrum_.n_null == 1
            # What was left out is judged, too: rows are compared on the same points.
            residual, kept = judge(model.embedding_)
            assert found.table["distance_residual"][i] == pytest.approx(residual, abs=1e-2)
            assert found.table["neighborhood_preservation"][i] == pytest.approx(kept, abs=2e-2)
            space = np.linalg.qr(model.embedding_)[0]
            if before is not None:
                change = instability(space, before)
                assert found.table["instability"][i] == pytest.approx(change, abs=2e-2)
            before = space
            embeds = f"{len(model.embedded_rows_)} with n_neighbors={k}"
            assert any(embeds in text for text in found.warnings) == (disconnected == "largest")
        assert not any("closed classes" in text for text in found.warnings)

    def test_pieces_are_refused_as_fit_refuses_them(self):
        """Two sets of 30 and 300: whole only with more neighbours than the smaller one has."""
        X = pieces(30, 300)
        found = select_n_neighbors(X, candidates=[6, 35], disconnected="raise", device="cpu")
        assert found.recommended == 35
        assert np.isnan(found.table["distance_residual"][0])
        (said,) = [text for text in found.warnings if text.startswith("6 failed")]
        assert "2 closed classes" in said
        with pytest.raises(DisconnectedGraphError, match=r"tried 6\. .*2 closed classes"):
            select_n_neighbors(X, candidates=[6], disconnected="raise", device="cpu")

    @pytest.mark.parametrize("disconnected", ["warn", "bridge"])
    def test_what_is_asked_for_is_not_advised(self, disconnected):
        """F of a flat sheet has null vectors beside the constant, bridged or not."""
        X = np.random.default_rng(0).uniform(size=(200, 2))
        found = select_n_neighbors(
            X, method="ltsa", candidates=[12], disconnected=disconnected, device="cpu"
        )
        (said,) = [text for text in found.warnings if "null vectors" in text]
        assert ("or disconnected='bridge'" in said) == (disconnected == "warn")

    def test_pieces_that_are_mended_do_not_order_the_search(self, monkeypatch):
        """The largest number, the dearest, is tried first only where pieces stay."""
        asked = []
        embed = parameters._Trials._embed

        def listening(self, k, reg):
            asked.append(k)
            return embed(self, k, reg)

        monkeypatch.setattr(parameters._Trials, "_embed", listening)
        for disconnected, first in (("warn", 40), ("bridge", 8)):
            asked.clear()
            select_n_neighbors(pieces(), disconnected=disconnected, device="cpu")
            assert asked[0] == first

    def test_one_search_and_no_more(self, roll, monkeypatch):
        from lle_gpu.neighbors import cpu

        asked = []
        search = cpu.NeighborSearch.kneighbors

        def counting(self, X=None, n_neighbors=None, return_distance=True):
            if self.X is roll.X:
                asked.append(self.n_neighbors)
            return search(self, X, n_neighbors, return_distance)

        monkeypatch.setattr(cpu.NeighborSearch, "kneighbors", counting)
        select_n_neighbors(roll.X, candidates=[6, 12, 20], device="cpu")
        assert asked == [20]

    def test_same_twice_and_on_any_number_of_threads(self, roll):
        one, other = (
            select_n_neighbors(roll.X, candidates=[6, 12], device="cpu", n_jobs=jobs)
            for jobs in (1, 2)
        )
        for name in one.table:
            np.testing.assert_array_equal(one.table[name], other.table[name])

    def test_few_points(self):
        X = np.random.default_rng(0).uniform(size=(12, 3))
        found = select_n_neighbors(X, device="cpu")
        assert 1 <= found.recommended <= 6
        assert select_n_neighbors(X, method="hessian", device="cpu").recommended >= 6

    @pytest.mark.parametrize(("distinct", "copies"), [(100, 10), (300, 45), (3, 100)])
    def test_duplicates(self, distinct, copies):
        X = np.repeat(np.random.default_rng(0).normal(size=(distinct, 3)), copies, axis=0)
        found = select_n_neighbors(X[: 20 * copies], candidates=[10, 24], device="cpu")
        assert found.recommended in (10, 24)

    def test_kinds(self, roll):
        import pandas as pd

        X = roll.X[:300]
        plain = select_n_neighbors(X, candidates=[8, 12], device="cpu")
        for other in (pd.DataFrame(X), csr_array(X), X.tolist()):
            found = select_n_neighbors(other, candidates=[12, 8, 8], device="cpu")
            assert found.recommended == plain.recommended
            np.testing.assert_allclose(
                found.table["distance_residual"], plain.table["distance_residual"], rtol=1e-3
            )

    def test_data_are_not_changed_and_nothing_is_warned(self, roll):
        X = roll.X.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            select_n_neighbors(X, candidates=[8, 40], device="cpu")
        np.testing.assert_array_equal(X, roll.X)

    def test_a_failing_candidate_is_said(self, roll, monkeypatch):
        embed = parameters._Trials._embed

        def failing(self, k, reg):
            if k == 12:
                raise ValueError("no luck")
            if k == 10:
                warnings.warn("not there yet", ConvergenceWarning, stacklevel=1)
            return embed(self, k, reg)

        monkeypatch.setattr(parameters._Trials, "_embed", failing)
        found = select_n_neighbors(roll.X, candidates=[8, 10, 12], device="cpu")
        assert np.isnan(found.table["distance_residual"][2])
        assert not found.table["converged"][2]
        assert "12 failed: no luck" in found.warnings
        assert "10: not there yet" in found.warnings
        assert found.recommended != 12
        with pytest.raises(ValueError, match=r"no candidate for n_neighbors.*tried 12.*no luck"):
            select_n_neighbors(roll.X, candidates=[12], device="cpu")

    def test_ends_and_dimension_are_warned_about(self):
        X = np.random.default_rng(0).normal(size=(300, 10))
        found = select_n_neighbors(X, device="cpu")
        assert any("more than n_components dimensions" in text for text in found.warnings)
        assert found.criterion == "neighborhood_preservation"
        if found.recommended in (6, 40):
            assert any("tried: give candidates" in text for text in found.warnings)


class TestSelectReg:
    def test_choice_and_table(self, roll):
        regs = [1e-3, 1e-1, 10.0]
        found = select_reg(roll.X, n_neighbors=10, candidates=regs, device="cpu")
        assert next(iter(found.table)) == "reg"
        np.testing.assert_array_equal(found.table["reg"], regs)
        by_hand = {
            reg: affine_residual(
                LocallyLinearEmbedding(n_neighbors=10, reg=reg, device="cpu").fit_transform(roll.X),
                roll.truth,
            )
            for reg in regs
        }
        assert found.recommended == min(by_hand, key=by_hand.get)
        for reg, error in zip(regs, found.table["reconstruction_error"], strict=True):
            model = LocallyLinearEmbedding(n_neighbors=10, reg=reg, device="cpu").fit(roll.X)
            assert error == pytest.approx(model.reconstruction_error_, rel=1e-3)
        assert isinstance(found.recommended, float)

    def test_default_and_zero(self):
        X = load("s-curve", 300).X
        found = select_reg(X, n_neighbors=10, device="cpu")
        np.testing.assert_array_equal(found.table["reg"], parameters.REGS)
        assert select_reg(X, n_neighbors=10, candidates=[0], device="cpu").recommended == 0.0

    def test_pieces(self):
        X = pieces()
        given = {"n_neighbors": 9, "candidates": [1e-3, 1e-1], "device": "cpu"}
        for disconnected, null_vectors in (("warn", 2), ("bridge", 1), ("largest", 1)):
            found = select_reg(X, disconnected=disconnected, **given)
            assert (found.table["null_vectors"] == null_vectors).all()
        for i, reg in enumerate(given["candidates"]):
            model = LocallyLinearEmbedding(
                n_neighbors=9, reg=reg, disconnected="largest", device="cpu"
            ).fit(X)
            assert found.table["reconstruction_error"][i] == pytest.approx(
                model.reconstruction_error_, rel=1e-3
            )
        (said,) = [text for text in found.warnings if "embeds" in text]
        assert "of 330 points, disconnected='largest' embeds 180 with n_neighbors=9." in said
        with pytest.raises(DisconnectedGraphError, match="2 closed classes"):
            select_reg(X, disconnected="raise", **given)


class TestIntrinsicDimension:
    @pytest.mark.parametrize("method", ["mle", "twonn"])
    @pytest.mark.parametrize("shape", [(500, 20), (1000, 50), (1500, 30)])
    def test_more_dimensions_than_the_points_can_tell(self, shape, method):
        """Nothing is near then: distances find too few, and a limit from 0 to any number."""
        X = np.random.default_rng(0).normal(size=shape) * np.linspace(3, 1, shape[1])
        with pytest.warns(UserWarning, match="too many for .* Take n_components by what"):
            found = intrinsic_dimension(X, method=method, device="cpu")
        assert shape[1] / 3 < found.recommended <= shape[1]
        assert any("too many" in text for text in found.warnings)

    def test_never_more_than_the_columns(self):
        beyond = []
        for seed in range(5):
            X = np.random.default_rng(seed).uniform(size=(20, 2))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                both = [intrinsic_dimension(X, method=m, device="cpu") for m in ("mle", "twonn")]
            assert all(1 <= found.recommended <= 2 for found in both)
            beyond += [found for found in both if found.dimension > 2.5]
        assert beyond

    @pytest.mark.parametrize(("d", "noise"), [(1, 0.01), (2, 0.025)])
    def test_noise_is_said_and_the_widest_look_taken(self, d, noise):
        """In 50 columns it is wider than neighbours are apart: four see it, and 25 less."""
        rng = np.random.default_rng(0)
        X = sphere(d, 500) @ np.eye(20, 50) + noise * rng.standard_normal((500, 50))
        with pytest.warns(UserWarning, match="4 neighbours see .* 25 only .*: noise"):
            near = intrinsic_dimension(X, device="cpu")
        assert near.dimension == near.table["dimension"][-1] < near.table["dimension"][0] / 2
        with pytest.warns(UserWarning, match="larger n_neighbors"):
            wide = intrinsic_dimension(X, n_neighbors=60, device="cpu")  # as it says
        assert d <= wide.dimension < near.dimension
        assert wide.recommended <= d + 1

    def test_sound_data_are_not_warned_about(self):
        rng = np.random.default_rng(0)
        sound = [make_swiss_roll(600, noise=0.3, random_state=0)[0], rng.exponential(size=(600, 5))]
        sound += [rng.normal(size=(n, d)) for n, d in ((60, 3), (100, 6), (600, 8), (1500, 10))]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for X in sound:
                for method in ("mle", "twonn", "lle"):
                    intrinsic_dimension(X, method=method, device="cpu")

    def test_far_neighbours_are_no_proof_of_noise(self):
        """25 of 30 points are most of them: that they see one dimension tells nothing."""
        rng = np.random.default_rng(0)
        X = np.c_[rng.uniform(size=30), np.zeros((30, 49))] + rng.normal(size=(30, 50)) / 70
        with pytest.warns(UserWarning, match="too many for 30 points"):
            found = intrinsic_dimension(X, device="cpu")
        assert found.dimension == found.table["dimension"][0] > 2 * found.table["dimension"][-1]

    @pytest.mark.parametrize(
        ("kind", "d"), [("pixels", 2), ("hexagons", 2), ("cells", 3), ("rounded", 2)]
    )
    def test_regularly_spaced_points_are_no_noise(self, kind, d):
        """More dimensions than columns: the nearest neighbours tell nothing, but wider ones do."""
        i, j = np.indices((20, 20)).reshape(2, -1)
        X = {
            "pixels": np.c_[i, j, np.sin(np.arange(400) / 60)],
            "hexagons": np.c_[i + 0.5 * (j % 2), j * np.sqrt(0.75)],
            "cells": np.indices((10, 10, 10)).reshape(3, -1).T,
            "rounded": np.round(make_swiss_roll(2000, random_state=0)[0]),
        }[kind]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = intrinsic_dimension(X, device="cpu")
        assert found.recommended == d
        assert found.table["dimension"][0] > X.shape[1] + 1
        assert "regularly spaced" in found.reason

    def test_regular_as_far_as_it_looks(self):
        X = np.indices((8, 8, 8)).reshape(3, -1).T
        with pytest.warns(UserWarning, match="regularly spaced: even 13 .* in 3 columns"):
            found = intrinsic_dimension(X, n_neighbors=13, device="cpu")
        assert found.recommended == 3

    @pytest.mark.parametrize("kind", ["line", "sine", "helix"])
    def test_regular_curves_have_no_two_nearest(self, kind):
        t = np.linspace(0, 6, 300)
        X = {
            "line": np.c_[t, 2 * t],
            "sine": np.c_[t, np.sin(t)],
            "helix": np.c_[np.cos(t), np.sin(t), t / 5],
        }[kind]
        with pytest.warns(UserWarning, match="regularly spaced, .* Use method='mle'"):
            found = intrinsic_dimension(X, method="twonn", device="cpu")
        assert found.recommended == found.dimension == X.shape[1]
        assert intrinsic_dimension(X, method="mle", device="cpu").recommended == 1

    def test_chance_is_not_called_regular(self):
        """Few points see more dimensions than columns, too."""
        beyond = []
        for seed in range(12):
            X = np.random.default_rng(seed).uniform(size=(14, 1 + seed % 3))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                both = [intrinsic_dimension(X, method=m, device="cpu") for m in ("mle", "twonn")]
            assert not any("regular" in f"{found.reason} {found.warnings}" for found in both[1:])
            assert "regularly spaced" not in both[0].reason
            beyond += [found for found in both if found.dimension > X.shape[1] + 1]
        assert beyond

    def test_other_metrics_may_see_more_than_the_columns(self):
        X = np.random.default_rng(0).uniform(size=(300, 2))
        found = intrinsic_dimension(
            X, method="twonn", metric=lambda a, b: np.linalg.norm(a - b) ** 0.25, device="cpu"
        )
        assert found.dimension > 6 and not found.warnings

    @pytest.mark.parametrize(
        ("limit", "is_taken", "is_warned"),
        [(0.0, False, True), (0.3, False, True), ("half", True, True), ("same", True, False),
         ("thrice", False, True)],
    )  # fmt: skip
    def test_where_the_limit_is_taken(self, limit, is_taken, is_warned, monkeypatch):
        X = np.random.default_rng(0).normal(size=(600, 8))
        few = intrinsic_dimension(X, device="cpu").table["dimension"][0]
        limit = {"half": few / 2, "same": few, "thrice": 3 * few}.get(limit, limit)
        monkeypatch.setattr(dimension, "_followed", lambda *given: limit)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = intrinsic_dimension(X, device="cpu")
        assert found.dimension == (limit if is_taken else few)
        assert ("in the limit" in found.reason) == is_taken
        assert any("is far from what" in str(one.message) for one in caught) == is_warned

    @pytest.mark.parametrize("kind", ["normal", "blobs"])
    def test_many_dimensions_are_not_far_from_their_limit(self, kind):
        """Where little is near, four neighbours fall short, and the limit is what is right."""
        X = (
            np.random.default_rng(1).normal(size=(500, 10))
            if kind == "normal"
            else make_blobs(1000, 10, centers=5, random_state=0)[0]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = intrinsic_dimension(X, device="cpu")
        assert "in the limit" in found.reason
        assert abs(found.dimension - 10) < 1.5

    @pytest.mark.parametrize("d", [1, 2, 3, 5, 8])
    def test_spheres(self, d):
        X = sphere(d, 1500)
        for method, allowed in (("mle", 0.5), ("twonn", 0.75), ("lle", 0)):
            found = intrinsic_dimension(X, method=method, device="cpu")
            assert abs(found.dimension - d) <= allowed, method
            assert found.recommended == round(found.dimension)

    def test_roll_and_line_and_full(self):
        X = make_swiss_roll(1000, random_state=0)[0]
        cube = np.random.default_rng(0).uniform(size=(1500, 3))
        line = np.random.default_rng(0).uniform(size=(500, 1))
        for method in ("mle", "twonn", "lle"):
            for points, d in ((X, 2), (cube, 3), (line, 1)):
                assert intrinsic_dimension(points, method=method).recommended == d, method

    def test_mle_by_its_definition(self):
        X = sphere(2, 300)
        found = intrinsic_dimension(X, n_neighbors=16, device="cpu")
        _, T = neighbors(X, 16)
        for k, m, radius in zip(*found.table.values(), strict=True):
            inverse = [np.mean([np.log(row[k - 1] / row[j]) for j in range(k - 1)]) for row in T]
            assert m == pytest.approx(1 / np.mean(inverse))
            assert radius == pytest.approx(np.exp(np.mean(np.log(T[:, k - 1]))))
        assert found.table["n_neighbors"][[0, -1]].tolist() == [4, 16]

    @pytest.mark.parametrize(("d", "b", "c"), [(1.0, 0.0, 0.0), (3.0, 0.4, 0.5), (7.5, 1.0, -0.8)])
    def test_limit_is_the_d_of_the_density(self, d, b, c):
        """Distances at the density's quantiles, each point with a weight."""
        v = np.linspace(0, 1, 200_001)[1:]
        log = (d - 1) * np.log(v) - b * v + c * v**2
        F = np.cumsum(np.exp(log + dimension.CLOSING / (d + 2) * c * abs(c) * v**4))
        ratio = np.interp((np.arange(4000) + 0.5) / 4000, F / F[-1], v)
        first = -1 / np.log(ratio).mean()
        some = np.ones((1, 4000))
        if c:  # the second order is taken at the first estimate
            assert abs(first - d) > 0.1
            some = some * np.exp(
                dimension.CLOSING * (1 / (first + 2) - 1 / (d + 2)) * c * abs(c) * ratio**4
            )
        found = dimension._limit(ratio[None], some, np.ones(1), b)
        assert found == pytest.approx(d, abs=0.02)
        both = np.concatenate([ratio, ratio**3])[None]  # the others count nothing
        some = np.concatenate([some, np.zeros((1, 4000))], axis=1)
        assert dimension._limit(both, some, np.ones(1), b) == pytest.approx(found)

    def test_lopsidedness_by_its_definition(self):
        """Over all choices of different neighbours."""
        from itertools import permutations

        rng = np.random.default_rng(0)
        X, k = rng.normal(size=(9, 3)), 6
        index = np.array([[j for j in range(9) if j != i][:k] for i in range(2)])
        near, rank = rng.uniform(0.5, 2, (2, k)), np.array([1.0, 3.0])
        upper, square = np.zeros(2), np.zeros(2)
        for i in range(2):
            w = near[i] / near[i].mean()
            U = X[index[i]] - X[i]
            U /= np.linalg.norm(U, axis=1, keepdims=True)
            G = U @ U.T
            third = [
                w[[a, b, c]].prod() * G[a, b] * G[b, c] for a, b, c in permutations(range(k), 3)
            ]
            halves = [
                np.mean([w[a] * w[b] * G[a, b] for a, b in permutations(half, 2)])
                for half in (range(0, k, 2), range(1, k, 2))
            ]
            upper[i] = np.mean(third) - halves[0] * halves[1]
            square[i] = np.mean([w[a] * w[b] * G[a, b] ** 2 for a, b in permutations(range(k), 2)])
        found = dimension._lopsidedness(X, np.arange(2), index, near, rank, 1)
        assert found == pytest.approx((rank @ upper) / (rank @ square))

    def test_half_space_by_drawing_it(self):
        """The integrals over the height, by random points above the boundary, d = 3."""
        d, wider = 3, 2.0
        Z = np.random.default_rng(0).uniform(-1.4, 1.4, (200_000, d))
        length = np.linalg.norm(Z, axis=1)
        held = int((length < 1).sum())
        heights = np.linspace(0, 2.3, 47)

        # The radii that hold as many; for the weights' radius the half-space is scaled.
        T = np.array([np.partition(length[Z[:, 0] > -h], held)[held] for h in heights])
        density = np.interp(heights / wider ** (1 / d), heights, T**-d)
        taken, seen = [], []
        for h, t in zip(heights, T, strict=True):
            inside = (length < t) & (Z[:, 0] > -h)
            w = 1 / np.interp(h + Z[inside, 0], heights, density)
            u = Z[inside, 0] / length[inside]
            e, M = np.average(u, weights=w), np.average(u**2, weights=w)
            taken.append(np.average(np.log(t / length[inside]), weights=w))
            seen.append(d * e**2 * (M - e**2))
        taken, seen = (
            trapezoid(density * (np.array(part) - part[-1]), heights) for part in (taken, seen)
        )
        expected = (d + 1) ** 2 * taken / seen
        assert dimension._lack_of_half_space(d, wider) == pytest.approx(expected, rel=0.06)

    @pytest.mark.parametrize(
        ("kind", "d", "before", "after"),
        [
            ("cube", 6, 0.6, 0.4),
            ("ball", 6, 0.4, 0.4),
            ("normal", 6, 0.0, 0.4),
            ("torus", 6, 0.5, 0.5),
        ],
    )
    def test_boundary_density_and_curvature(self, kind, d, before, after):
        """Means over samples; 25 neighbours alone are off by more than ``before``."""
        found = []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            Z = rng.standard_normal((2000, d))
            if kind == "cube":
                Z = rng.uniform(size=(2000, d))
            elif kind == "ball":
                Z *= rng.uniform(size=(2000, 1)) ** (1 / d) / np.linalg.norm(Z, axis=1)[:, None]
            elif kind == "torus":
                angle = rng.uniform(0, 2 * np.pi, (2000, d))
                Z = np.column_stack([np.cos(angle), np.sin(angle)])
            found.append(intrinsic_dimension(turned(Z), device="cpu"))
        assert abs(np.mean([one.table["dimension"][-1] for one in found]) - d) > before
        assert abs(np.mean([one.dimension for one in found]) - d) < after

    def test_twonn_by_its_definition(self):
        X = sphere(3, 400)
        found = intrinsic_dimension(X, method="twonn", device="cpu")
        mu = np.sort(neighbors(X, 2)[1][:, 1] / neighbors(X, 2)[1][:, 0])
        F = np.arange(1, 401) / 400
        x, y = np.log(mu[:360]), -np.log(1 - F[:360])
        assert found.dimension == pytest.approx((x @ y) / (x @ x))
        np.testing.assert_array_equal(found.table["n_samples"], [100, 200, 400])
        assert found.table["dimension"][-1] == found.dimension
        assert (np.diff(found.table["radius"]) < 0).all()

    def test_lle_sees_noise_as_thickness(self):
        rng = np.random.default_rng(0)
        plane = turned(rng.uniform(size=(800, 2)), 6)
        assert intrinsic_dimension(plane, method="lle").recommended == 2
        noisy = plane + 0.5 * rng.standard_normal(plane.shape)
        assert intrinsic_dimension(noisy, method="lle").recommended == 6
        thickness = intrinsic_dimension(plane, method="lle").table["thickness"]
        assert thickness[0] == pytest.approx(1, abs=0.15)
        assert thickness[-1] < 1e-6

    def test_lle_at_its_end(self):
        X = np.random.default_rng(0).normal(size=(200, 20))
        with pytest.warns(UserWarning, match="5 dimensions .* or more.* Larger n_neighbors"):
            found = intrinsic_dimension(X, method="lle", n_neighbors=5)
        assert found.recommended == 5
        assert "or more" in found.warnings[0]
        X = np.random.default_rng(0).normal(size=(200, 50))
        with pytest.warns(UserWarning, match="31 dimensions .* Take n_components by what"):
            assert intrinsic_dimension(X, method="lle").recommended == 31

    def test_scale_rotation_and_shift_do_not_matter(self):
        X = sphere(2, 400)
        for method in ("mle", "twonn", "lle"):
            a = intrinsic_dimension(X, method=method)
            b = intrinsic_dimension(turned(3e4 * X, seed=5) + 100.0, method=method)
            assert a.dimension == pytest.approx(b.dimension, rel=1e-5)

    def test_duplicates_are_left_out_and_said(self):
        X = sphere(2, 500)
        plain = intrinsic_dimension(X)
        found = intrinsic_dimension(np.concatenate([X, X[:20]]))
        assert "40 points equal others" in found.warnings[0]
        assert found.dimension == pytest.approx(plain.dimension, abs=0.2)
        with pytest.raises(ValueError, match=r"only 0 of 40 points differ .* remove duplicated"):
            intrinsic_dimension(np.repeat(X[:20], 2, axis=0))

    def test_a_grid_has_no_ratios(self):
        X = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), -1).reshape(-1, 3)
        with pytest.raises(ValueError, match=r"at one distance .* method='lle'"):
            intrinsic_dimension(X, method="twonn")

    def test_sparse(self):
        X = np.maximum(sphere(2, 300), 0)
        for method in ("mle", "twonn", "lle"):
            dense, sparse = (intrinsic_dimension(A, method=method) for A in (X, csr_array(X)))
            assert sparse.dimension == pytest.approx(dense.dimension, rel=1e-6)


class TestResults:
    @pytest.fixture(params=["k", "reg", "mle", "twonn", "lle"])
    def result(self, request, roll, choice):
        if request.param == "k":
            return choice
        if request.param == "reg":
            return select_reg(roll.X, n_neighbors=10, candidates=[1e-3, 0.1], device="cpu")
        return intrinsic_dimension(roll.X, method=request.param, device="cpu")

    def test_to_pandas(self, result):
        frame = result.to_pandas()
        assert list(frame.columns) == list(result.table)
        for name, column in result.table.items():
            np.testing.assert_array_equal(frame[name], column)

    def test_text(self, result):
        text = str(result)
        assert text.startswith(result.reason)
        for part in (*result.warnings, *result.table):
            assert part in text
        assert len(text.splitlines()) == 2 + len(result.warnings) + len(
            next(iter(result.table.values()))
        )

    def test_criterion_is_a_column(self, result):
        assert result.criterion in result.table
        assert result.reason.endswith(".")

    def test_frozen(self, result):
        with pytest.raises(AttributeError):
            result.recommended = 3

    def test_plot(self, result):
        pytest.importorskip("matplotlib")
        assert result.plot().get_xlabel()
        assert result.plot().figure is not None

    def test_without_pandas_or_matplotlib(self, result, monkeypatch):
        for name in ("pandas", "matplotlib"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match="pandas"):
            result.to_pandas()
        with pytest.raises(ImportError, match="matplotlib"):
            result.plot()


GOOD = np.random.default_rng(0).uniform(size=(60, 3))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: select_n_neighbors(GOOD[0]), "2D array"),
        (lambda: select_n_neighbors(GOOD[:2]), "minimum of 3"),
        (lambda: select_n_neighbors(np.full((20, 2), np.nan)), "NaN"),
        (lambda: select_n_neighbors(np.ones((20, 2))), "^all 20 points of X are equal"),
        (lambda: select_n_neighbors(GOOD, candidates=[]), "candidates is empty"),
        (lambda: select_n_neighbors(GOOD, candidates=[5, 60]), "n_neighbors = 60"),
        (lambda: select_n_neighbors(GOOD, candidates=[0, 5]), r"has 0, .* whole numbers from 1"),
        (lambda: select_n_neighbors(GOOD, candidates=[5.5]), r"has 5.5, .* whole numbers"),
        (lambda: select_n_neighbors(GOOD, candidates=[True]), "has True"),
        (lambda: select_n_neighbors(GOOD, candidates=["5"]), "has '5'"),
        (lambda: select_n_neighbors(GOOD, candidates=5), "candidates"),
        (
            lambda: select_n_neighbors(GOOD, candidates=[3, 9], method="hessian"),
            "n_neighbors=3 is too small for method='hessian'",
        ),
        (lambda: select_n_neighbors(GOOD, n_components=4), "n_components=4"),
        (lambda: select_n_neighbors(GOOD, n_components=0), "n_components"),
        (lambda: select_n_neighbors(GOOD, method="isomap"), "method"),
        (lambda: select_n_neighbors(GOOD, reg=-1), "reg"),
        (lambda: select_n_neighbors(GOOD, device="tpu"), "device"),
        (lambda: select_n_neighbors(GOOD, disconnected="tie"), "disconnected.*'bridge'"),
        (lambda: select_reg(GOOD, n_neighbors=8, disconnected="tie"), "disconnected.*'bridge'"),
        (lambda: select_reg(GOOD, n_neighbors=60), "n_neighbors = 60"),
        (lambda: select_reg(GOOD, n_neighbors=8, method="ltsa"), "method='ltsa' has no weights"),
        (lambda: select_reg(GOOD, n_neighbors=8, candidates=[-1.0]), "finite numbers from 0"),
        (lambda: select_reg(GOOD, n_neighbors=8, candidates=[np.inf]), "finite numbers from 0"),
        (lambda: intrinsic_dimension(GOOD, method="pca"), "method"),
        (lambda: intrinsic_dimension(GOOD[:5]), "minimum of 10"),
        (lambda: intrinsic_dimension(GOOD, n_neighbors=60), "n_neighbors=60 must be from 8 to 59"),
        (lambda: intrinsic_dimension(GOOD, n_neighbors=5), "n_neighbors=5 must be from 8"),
        (lambda: intrinsic_dimension(np.ones((20, 2))), "^all 20 points of X are equal"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_top_level_names_are_these():
    for name in lle_gpu.selection.__all__:
        assert getattr(lle_gpu, name) is getattr(lle_gpu.selection, name)


@pytest.mark.slow
def test_benchmark_runs():
    from benchmarks import selection

    row = selection.compare_k("cap", 300, 0, "standard", 2, (8, 16))
    assert row["chosen"] in selection.GRID or row["value"] >= row["best value"]
    for name in selection.MANIFOLDS:
        assert selection.manifold(name, 2, 50, 20).shape == (50, 20)
    assert selection.compare_dimension("sphere", 2, 400)["met"]


def test_the_benchmark_finds_out_first_where_its_record_goes(tmp_path, capsys, monkeypatch):
    from benchmarks import selection

    monkeypatch.setattr(selection, "compare_dimension", lambda *case: {"met": True, "case": case})
    arguments = ["--quick", "--only", "dimension", "--json"]
    with pytest.raises(SystemExit):
        selection.main([*arguments, str(tmp_path / "no" / "such.json")])
    out, err = capsys.readouterr()
    assert "cannot write --json" in err
    assert not out  # nothing was measured in vain
    assert selection.main([*arguments, str(tmp_path / "record.json")]) == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert [tuple(row["case"]) for row in record["dimension"]][:2] == [
        ("sphere", 1, 300),
        ("sphere", 3, 300),
    ]


def test_data_that_fill_their_columns():
    X = np.random.default_rng(0).normal(size=(400, 3))
    found = intrinsic_dimension(X, method="lle")
    assert found.recommended == 3
    assert "extend along all columns" in found.reason
