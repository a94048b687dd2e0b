"""Labels that do not fit the images are refused before there is a data set."""

import os
import pickle
import shutil
import tarfile
import zipfile

import pytest
from prepare_layouts import WNIDS, lowered, write_tar

from pretrain.console import UserError
from pretrain.data.prepare.cifar import load_pickle
from pretrain.data.prepare.labels import pairs


def spoil(name, old, new):
    def change(files):
        assert old in files[f"CUB_200_2011/{name}"]
        files[f"CUB_200_2011/{name}"] = files[f"CUB_200_2011/{name}"].replace(old, new)

    return change


FIRST = b"001.Black_footed_Albatross/Black_footed_Albatross_0001.jpg"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("image_class_labels.txt", b"1 1\n", b"1 2\n"), r"image 1 lies in '001\.Black.*says '002\.Laysan"),
        (spoil("image_class_labels.txt", b"1 1\n", b""), r"image 1 lies in '001.*says 'nothing'"),
        (spoil("train_test_split.txt", b"1 1\n", b"1 7\n"), "does not say 0 or 1 of image 1"),
        (
            spoil("images.txt", b"_0001.jpg", b"_9999.jpg"),
            r"1 of the 18 images that images\.txt names are not in it.*9999",
        ),
        (spoil("images.txt", FIRST, b"001.Black_footed_Albatross/../evil.jpg"), "1 of the 18 images.* not in it.*evil"),
        (
            spoil("images.txt", FIRST, b"001.Black_footed_Albatross/.hidden"),
            r"'\.hidden' in the labels cannot be the name",
        ),
        (spoil("images.txt", b"1 0", b"1 \xff"), "not UTF-8 text"),
        (spoil("images.txt", b"2 002", b"1 002"), "line 2: '1' stands there twice"),
        (spoil("images.txt", b"2 002.Laysan_Albatross/", b"2"), "line 2: two columns are due"),
        (lambda files: files.pop("CUB_200_2011/classes.txt"), r"no classes\.txt in it"),
    ],
)
def test_labels_of_cub_that_do_not_fit_are_refused(make, arranged, tmp_path, change, message):
    built = make("cub200", changed=change)
    with pytest.raises(UserError, match=message):
        arranged(built, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("evil*"))


class Evil:
    def __reduce__(self):
        return os.system, ("false",)


def test_a_pickle_that_would_call_something_is_refused():
    with pytest.raises(UserError, match=r"meta: not a pickle of CIFAR's \(it asks for (posix|nt)\.system\)"):
        load_pickle(pickle.dumps(Evil()), "meta")
    with pytest.raises(UserError, match="not a pickle of CIFAR's"):
        load_pickle(b"\x80\x02}(", "meta")
    with pytest.raises(UserError, match=r"not a pickle of CIFAR's \(a list\)"):
        load_pickle(b"\x80\x02].", "meta")


def rewrite(built, name, change):
    """Change the files of a tar archive, and know its new checksum."""
    path = built.folder / name
    with tarfile.open(path) as archive:
        files = {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}
    change(files)
    write_tar(path, files)
    built.data_set = lowered(built.data_set, built.folder, built.truth).data_set


def test_labels_of_cifar_that_do_not_fit_are_refused(make, arranged, tmp_path):
    built = make("cifar100")

    def change(files):
        files["cifar-100-python/train"] = files["cifar-100-python/train"].replace(
            b"J\x02\x00\x00\x00e", b"J\x09\x00\x00\x00e"
        )

    rewrite(built, "cifar-100-python.tar.gz", change)
    with pytest.raises(UserError, match="train: its fine_labels do not fit its 12 images"):
        arranged(built, tmp_path / "out")


def test_imagenet_refuses_a_label_that_the_devkit_does_not_have(make, arranged, tmp_path):
    built = make("imagenet")
    name = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    rewrite(built, "ILSVRC2012_devkit_t12.tar.gz", lambda files: files.update({name: b"3\n77\n"}))
    with pytest.raises(UserError, match=r"has the class '77', which data/meta\.mat does not"):
        arranged(built, tmp_path / "out")
    name = "ILSVRC2012_devkit_t12/data/meta.mat"
    rewrite(built, "ILSVRC2012_devkit_t12.tar.gz", lambda files: files.update({name: b"no table"}))
    shutil.rmtree(tmp_path / "out.partial")
    with pytest.raises(UserError, match="meta.mat is not the devkit's table of classes"):
        arranged(built, tmp_path / "out")


def test_aircraft_refuses_an_image_in_both_parts(make, arranged, tmp_path):
    built = make("aircraft")

    def change(files):
        files["fgvc-aircraft-2013b/data/images_variant_test.txt"] += b"\n0034309 707-320"

    rewrite(built, "fgvc-aircraft-2013b.tar.gz", change)
    with pytest.raises(UserError, match="image 0034309 is in both parts"):
        arranged(built, tmp_path / "out")


def test_inat_refuses_an_image_in_both_splits(make, arranged, tmp_path):
    built = make("inat2018")
    with tarfile.open(built.folder / "train2018.json.tar.gz") as archive:
        train = archive.extractfile("train2018.json").read()
    rewrite(built, "val2018.json.tar.gz", lambda files: files.update({"val2018.json": train}))
    with pytest.raises(UserError, match=r"val2018\.json: 'train_val2018/.*jpg' stands there twice, or in both splits"):
        arranged(built, tmp_path / "out")


def test_aircraft_refuses_a_variant_that_is_not_listed(make, arranged, tmp_path):
    built = make("aircraft")
    rewrite(
        built,
        "fgvc-aircraft-2013b.tar.gz",
        lambda files: files.update({"fgvc-aircraft-2013b/data/variants.txt": b"707-320\nFalcon 2000"}),
    )
    with pytest.raises(UserError, match=r"has the variant 'F-16A/B', which data/variants\.txt does not have"):
        arranged(built, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [{"id": 1, "file_name": "a"}], "annotations": []}', "1 images without an annotation"),
        (b'{"images": [], "annotations": [{"image_id": 1, "category_id": 2}]}', "1 annotations without an image"),
        (
            b'{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "category_id": 2}, '
            b'{"image_id": 1, "category_id": 3}]}',
            "1 with several",
        ),
        (b'{"images": []}', "not a table of images and annotations.*KeyError"),
        (b"{", "not a table of images and annotations"),
    ],
)
def test_labels_of_inat_that_do_not_fit_are_refused(make, arranged, tmp_path, content, message):
    built = make("inat2018")
    rewrite(built, "train2018.json.tar.gz", lambda files: files.update({"train2018.json": content}))
    with pytest.raises(UserError, match=rf"train2018\.json: .*{message}"):
        arranged(built, tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("train", b".jpg 0\n", b".jpg 1\n", "has the label 0, and others of 'abbey' 1"),
        ("val", b" 2", b" 1", "has the label 1, and others of 'basilica' 2"),
        ("val", b"\na/apart", b"\nz/apart", r"1 of the 18 images.* not in it: z/apart"),
    ],
)
def test_labels_of_places_that_do_not_fit_are_refused(make, arranged, tmp_path, file, old, new, message):
    built = make("places205")
    name = f"trainvalsplit_places205/{file}_places205.csv"

    def change(files):
        assert old in files[name]
        files[name] = files[name].replace(old, new, 1)

    rewrite(built, "trainvalsplit_places205.tar.gz", change)
    with pytest.raises(UserError, match=message):
        arranged(built, tmp_path / "out")


def test_places_refuses_an_image_in_both_splits_and_a_label_of_two_classes(make, arranged, tmp_path):
    built = make("places205")
    name = "trainvalsplit_places205/{}_places205.csv"

    def same(files):
        files[name.format("val")] = files[name.format("train")]

    rewrite(built, "trainvalsplit_places205.tar.gz", same)
    with pytest.raises(UserError, match=r"val_places205\.csv: 'a/abbey/.*jpg' is in both splits"):
        arranged(built, tmp_path / "out")

    def merged(files):
        files[name.format("train")] = files[name.format("train")].replace(b" 2", b" 1")
        files[name.format("val")] = b"a/abbey/x.jpg 0"

    rewrite(built, "trainvalsplit_places205.tar.gz", merged)
    shutil.rmtree(tmp_path / "out.partial")
    with pytest.raises(UserError, match="two classes have the same label"):
        arranged(built, tmp_path / "out")


def test_a_path_may_hold_a_space():
    assert pairs({"x": b"a/b c.jpg 3\n\n"}, "x", last=True) == {"a/b c.jpg": "3"}
    assert pairs({"x": b"1 Falcon 2000\n"}, "x") == {"1": "Falcon 2000"}


def test_tiny_refuses_a_class_that_is_not_listed(make, arranged, tmp_path):
    built = make("tiny")
    with zipfile.ZipFile(built.folder / "tiny-imagenet-200.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    (tmp_path / "unpacked/tiny-imagenet-200/wnids.txt").write_text("\n".join(WNIDS[:2]))
    with pytest.raises(UserError, match=r"classes that wnids\.txt does not have: n15075141"):
        arranged(built, tmp_path / "out", unpacked=tmp_path / "unpacked")
