"""What no other backend offers: a box corrected by clicks, and an existing mask corrected in place."""

import pytest

from maskloop.demo.account import Account
from maskloop.demo.process import Backend
from tests.e2e import pictures
from tests.e2e.answer import Answer, Mask
from tests.e2e.conftest import PASSWORD, NewEditor, NewProject
from tests.e2e.editor import Editor
from tests.e2e.pictures import DISC

BOX = (57.0, 46.0, 93.0, 89.0)
IN_BOX, CUT_FROM_BOX = (75.0, 60.0), (87.0, 80.0)
CUT_FROM_DISC = (36.0, 40.0)
FAR, NOTHING = (12.0, 88.0), (50.0, 8.0)


def corrected(editor: Editor, box: Mask, x: float, y: float, negative: bool) -> Answer:
    """Ctrl+click inside the pending box: the answer must still be the box's object."""
    answer = editor.point(x, y, negative=negative, through=True)
    assert all(prompt["type"] == "keypointlabels" for prompt in answer.asked), "Label Studio never sends both"
    assert answer.mask.has(x, y) is not negative
    assert answer.mask.inside(*BOX) > box.area / 2, "the click was answered without the box"
    return answer


@pytest.mark.parametrize("draft_saved", [False, True], ids=["at_once", "after_draft"])
def test_a_box_is_corrected_by_clicks(
    draft_saved: bool, editor: Editor, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend)
    editor.open(labeling.project, labeling.tasks[0])
    editor.delete_all()
    if draft_saved:
        editor.let_draft_save()
    box = editor.box(*BOX).mask
    if draft_saved:
        editor.let_draft_save()
    cut = corrected(editor, box, *CUT_FROM_BOX, negative=True)
    assert cut.mask.area < box.area
    again = corrected(editor, box, *IN_BOX, negative=False)
    assert not again.mask.has(*CUT_FROM_BOX), "the earlier click still counts"
    editor.accept()
    (kept,) = editor.masks()
    assert kept.area == again.mask.area
    assert editor.suggested() == []


def test_a_box_refined_under_auto_accept_stays_one_region(
    editor: Editor, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend)
    editor.open(labeling.project, labeling.tasks[0], auto_accept=True)
    editor.delete_all()
    editor.box(*BOX)
    (before,) = editor.masks()
    editor.point(*CUT_FROM_BOX, negative=True, through=True)
    (after,) = editor.masks()
    assert after.id == before.id
    assert not after.has(*CUT_FROM_BOX)
    assert before.area / 2 < after.area < before.area


def test_another_persons_click_in_a_box_knows_nothing_of_it(
    new_editor: NewEditor, account: Account, backend: Backend, new_project: NewProject
) -> None:
    """Two people on one task: nobody ever sees the other's prompts."""
    Account(account.url, "bob@example.com", PASSWORD, new=True).close()
    labeling = new_project(backend)
    task = labeling.tasks[0]
    alice, bob = new_editor(), new_editor("bob@example.com")
    for editor in (alice, bob):
        editor.open(labeling.project, task)
        editor.delete_all()
    alices, bobs = (45.0, 40.0, 95.0, 92.0), (50.0, 60.0)  # background inside the corner of her box
    bob.point(*DISC)
    bob.let_draft_save()  # from now on his requests carry his draft, which tells him from her
    bob.drop_prompts()
    bob.reject() if bob.suggested() else None
    alice.box(*alices)
    alice.let_draft_save()
    alone = bob.point(*bobs)
    assert len(alone.asked) == 1
    share = alone.mask.inside(*pictures.BLOCK) / (192 * 168) if alone.regions else 0
    hers = alice.answers[-1].mask
    assert alone.regions == [] or alone.mask.id != hers.id
    assert alone.regions == [] or alone.mask.area != hers.area, f"bob got alice's mask ({share:.0%} of the block)"


class TestInPlace:
    """MASKLOOP_CORRECT_IN_PLACE=true: one region, one id, from the first mask to the pre-annotated one."""

    @pytest.fixture
    def window(self, editor: Editor, correcting_backend: Backend, new_project: NewProject) -> Editor:
        labeling = new_project(correcting_backend, {f"{seed}.png": pictures.png(seed) for seed in (7, 8)})
        self.project, self.tasks = labeling.project, labeling.tasks
        editor.open(labeling.project, labeling.tasks[0])
        editor.delete_all()
        return editor

    def mask_of_the_disc(self, window: Editor) -> Mask:
        window.point(*DISC)
        window.accept()
        (mask,) = window.masks()
        assert mask.has(*CUT_FROM_DISC)
        return mask

    def cut(self, window: Editor, before: Mask) -> Mask:
        mask = window.point(*CUT_FROM_DISC, negative=True, through=True).mask
        assert mask.id == before.id
        assert not mask.has(*CUT_FROM_DISC)
        assert 0 < mask.area < before.area
        assert not (mask.pixels & ~before.pixels).any(), "a negative click only removes"
        return mask

    def test_cut_reject_cut_accept_undo_extend_submit_and_cut_again(self, window: Editor, account: Account) -> None:
        before = self.mask_of_the_disc(window)
        self.cut(window, before)
        window.reject()
        (kept,) = window.masks()
        assert kept.area == before.area, "the red cross leaves the mask as it was"

        window.let_draft_save()
        cut = self.cut(window, before)
        window.accept()
        (kept,) = window.masks()
        assert (kept.id, kept.area) == (before.id, cut.area)
        window.undo(2)
        (kept,) = window.masks()
        assert kept.area == before.area

        window.let_draft_save()
        assert window.point(*DISC, through=True).mask.id == before.id
        extended = window.point(30, 70, through=True).mask
        assert extended.id == before.id
        assert extended.has(30, 70)
        assert not (before.pixels & ~extended.pixels).any(), "a positive click only adds"
        window.accept()
        window.submit()
        (stored,) = account.call("GET", f"/api/tasks/{self.tasks[0]}/annotations/")
        (region,) = stored["result"]
        assert Mask.of(region).area == extended.area

        window.open(self.project, self.tasks[0])
        (submitted,) = window.masks(1)
        cut = self.cut(window, submitted)
        window.accept()
        window.update()
        (stored,) = account.call("GET", f"/api/tasks/{self.tasks[0]}/annotations/")
        assert [Mask.of(region).area for region in stored["result"]] == [cut.area]

    def test_a_preannotated_mask_is_corrected(self, window: Editor, account: Account) -> None:
        region = dict(window.box(*BOX).regions[-1], id="preannotated")
        window.drop_prompts()
        task = self.tasks[1]
        body = {"task": task, "result": [region], "score": 0.8, "model_version": "imported"}
        account.call("POST", "/api/predictions/", json=body)
        window.open(self.project, task)
        (before,) = window.masks(1)
        assert before.id == "preannotated"
        answer = window.point(*IN_BOX, negative=True, through=True)
        assert answer.mask.id == "preannotated"
        window.accept()
        (after,) = window.masks()
        assert 0 < after.area < before.area

    def test_clicks_elsewhere_change_nothing(self, window: Editor) -> None:
        before = self.mask_of_the_disc(window)
        new = window.point(*FAR).mask
        assert new.id != before.id
        window.reject()
        nothing = window.point(*NOTHING, negative=True)
        assert nothing.regions == []
        window.drop_prompts()
        (kept,) = window.masks()
        assert (kept.id, kept.area) == (before.id, before.area)


def test_without_the_setting_an_existing_mask_is_never_touched(
    editor: Editor, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend)
    editor.open(labeling.project, labeling.tasks[0])
    editor.delete_all()
    editor.point(*DISC)
    editor.accept()
    (before,) = editor.masks()
    editor.let_draft_save()
    answer = editor.point(*CUT_FROM_DISC, negative=True, through=True)
    assert answer.regions == []
    editor.drop_prompts()
    (kept,) = editor.masks()
    assert (kept.id, kept.area) == (before.id, before.area)
