import numpy as np


def test_moving_one_scale_moves_its_object_and_the_ranges_of_the_others(viewer):
    before = np.array(viewer.nodes[1].position)
    viewer.set_scale(1, np.exp(0.05))
    camera = np.array(viewer.frustum.position)
    after = np.array(viewer.nodes[1].position)
    np.testing.assert_allclose(after - camera, np.exp(0.05) * (before - camera), rtol=1e-5)
    np.testing.assert_allclose(viewer.nodes[1].scale, np.exp(0.05), rtol=1e-6)
    np.testing.assert_allclose(viewer.sliders[1].min, np.exp(-0.05), rtol=1e-6)


def test_a_scale_beyond_its_interval_stops_at_the_end(viewer):
    viewer.set_scale(1, 10.0)
    np.testing.assert_allclose(viewer.sliders[0].value, np.exp(0.1), rtol=1e-6)
    assert "agrees with the occlusions" in viewer.validity.content.lower()
    assert "**0.75**" in viewer.validity.content


def test_choosing_a_sample_sets_all_scales(viewer, toy_samples):
    viewer.choose_sample(1)
    np.testing.assert_allclose([s.value for s in viewer.sliders], np.exp(toy_samples.log_scale[1, 1:]), rtol=1e-6)
    assert viewer.sample.value == 1


def test_time_moves_the_camera_and_stays_within_the_clip(viewer, toy_scene):
    before = np.array(viewer.frustum.position)
    viewer.go_to(99)
    assert viewer.frame == toy_scene.n_frames - 1
    assert np.linalg.norm(np.array(viewer.frustum.position) - before) > 0.1


def test_surfaces_replace_points_when_they_come(viewer, sphere_meshes):
    viewer.show_meshes(sphere_meshes)
    assert len(viewer.meshes) == 2
    assert [cloud.visible for cloud in viewer.clouds] == [False] * 3


def test_the_page_works_in_a_browser(browser, viewer, sphere_meshes):
    viewer.show_meshes(sphere_meshes)
    browser.open(viewer.url)
    browser.wait_for("return document.querySelectorAll('[role=slider]').length >= 4 && document.querySelector('canvas')")
    browser.wait_for("return document.body.innerText.includes('network score')")
    browser.run("document.querySelectorAll('[role=slider]')[2].focus()")
    before, start = browser.screenshot(), viewer.state.scale[1]
    keys = [{"type": kind, "value": "\ue014"} for _ in range(60) for kind in ("keyDown", "keyUp")]
    browser.call("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})
    browser.wait_for(f"return {int(viewer.state.scale[1] > start)}")
    assert viewer.state.scale[1] > start
    assert browser.screenshot() != before
    assert browser.complaints() == []
