//! What a store may not say, and the kind of each error.

use crate::place::{IMAGE, Place, two_layers};
use cstor_client::error::StoreError;
use cstor_client::extract::Extractor;
use cstor_client::{Digest, Error, ErrorKind, Escaped, ImageId, LayerId, Storage, Verify};
use cstor_tests::forge::store::digest;
use serde_json::json;
use std::fs;

#[test]
fn the_data_of_an_image_is_checked() {
    type Damage = fn(&Place);
    let config_key = |place: &Place| format!("sha256:{}", place.store.images[0]);
    let table: [(&str, Damage); 5] = [
        ("manifest, one byte", |p| p.store.bytes(&p.store.big_data(0, "manifest"), |bytes| bytes[0] ^= 1)),
        ("manifest, longer", |p| p.store.bytes(&p.store.big_data(0, "manifest"), |bytes| bytes.push(b' '))),
        ("manifest, its size", |p| p.image_record(|image| image["big-data-sizes"]["manifest"] = json!(1))),
        ("manifest, its digest", |p| {
            p.image_record(|image| image["big-data-digests"]["manifest"] = json!(digest(b"other")));
        }),
        ("manifest, empty", |p| p.store.bytes(&p.store.big_data(0, "manifest"), Vec::clear)),
    ];
    for (what, damage) in table {
        let place = Place::new(&two_layers());
        damage(&place);
        let image = place.open().image(IMAGE).unwrap();
        for error in [image.manifest().unwrap_err(), image.config().unwrap_err(), image.layers().unwrap_err()] {
            assert!(matches!(&error, StoreError::BigData { key, .. } if key == "manifest"), "{what}: {error}");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}");
        }
        assert_eq!(image.rootfs().unwrap_err().kind(), ErrorKind::Corrupt, "{what}");
    }
    let place = Place::new(&two_layers());
    place.store.bytes(&place.store.big_data(0, &config_key(&place)), |bytes| bytes.push(b'\n'));
    let image = place.open().image(IMAGE).unwrap();
    assert!(image.manifest().is_ok());
    assert!(matches!(image.config(), Err(StoreError::BigData { .. })));
    let error = Extractor::new().extract(&image, place.out()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!place.out().exists());
}

#[test]
fn the_layers_are_those_of_the_configuration() {
    let place = Place::new(&two_layers());
    let other = format!("sha256:{}", "1".repeat(64));
    place.layer_record(1, |layer| layer["diff-digest"] = json!(other));
    let error = place.open().image(IMAGE).unwrap().layers().unwrap_err();
    let StoreError::DiffId { layer, found, wanted, .. } = &error else { panic!("{error}") };
    assert_eq!(layer.to_string(), place.store.layers[1].id);
    assert_eq!((found.to_string(), wanted.to_string()), (other, place.store.layers[1].diff_id()));

    let place = Place::new(&two_layers());
    place.image_record(|image| image["layer"] = json!(place.store.layers[0].id));
    let error = place.open().image(IMAGE).unwrap().layers().unwrap_err();
    assert!(matches!(error, StoreError::LayerCount { config: 2, chain: 1, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);

    // A layer of which only a table of contents was pulled has no diff id to compare.
    let place = Place::new(&two_layers());
    place.layer_record(1, |layer| {
        layer.as_object_mut().unwrap().remove("diff-digest");
    });
    assert_eq!(place.open().image(IMAGE).unwrap().layers().unwrap().len(), 2);
}

#[test]
fn errors_have_a_kind_and_say_what_they_are_about() {
    type Cause = fn(&Place) -> Error;
    let table: [(&str, Cause, ErrorKind, &str); 13] = [
        ("no store", |_| Storage::open("/nonexistent").unwrap_err().into(), ErrorKind::NotFound, "/nonexistent"),
        (
            "another driver",
            |p| {
                fs::create_dir_all(p.dir.path().join("vfs/vfs-layers")).unwrap();
                Storage::open(p.dir.path().join("vfs")).unwrap_err().into()
            },
            ErrorKind::Unsupported,
            "vfs",
        ),
        ("no image", |p| p.open().image("nosuch").unwrap_err().into(), ErrorKind::NotFound, "nosuch"),
        ("no layer", |p| p.open().layer("nosuch").unwrap_err().into(), ErrorKind::NotFound, "nosuch"),
        (
            "damaged JSON",
            |p| {
                p.store.bytes(&p.store.images_json(), |bytes| bytes.truncate(5));
                p.open().list_images().unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "images.json",
        ),
        (
            "an id that is none",
            |p| {
                p.image_record(|image| image["id"] = json!("../../etc"));
                p.open().list_images().unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "../../etc",
        ),
        (
            "a missing parent",
            |p| {
                p.layer_record(1, |layer| layer["parent"] = json!("a".repeat(64)));
                p.open().image(IMAGE).unwrap().layers().unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "aaaaaaaaaaaa",
        ),
        (
            "a cycle",
            |p| {
                p.layer_record(0, |layer| layer["parent"] = json!(p.store.layers[1].id));
                p.open().image(IMAGE).unwrap().rootfs().unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "cycle",
        ),
        (
            "incomplete",
            |p| {
                p.layer_record(1, |layer| layer["flags"] = json!({"incomplete": true}));
                p.open().image(IMAGE).unwrap().rootfs().unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "incomplete",
        ),
        (
            "no tar-split",
            |p| {
                p.store.remove(&p.store.tar_split(0));
                p.open().image(IMAGE).unwrap().rootfs().unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "tar-split",
        ),
        (
            "an occupied destination",
            |p| {
                fs::create_dir_all(p.out().join("mine")).unwrap();
                Extractor::new().extract(&p.open().image(IMAGE).unwrap(), p.out()).unwrap_err().into()
            },
            ErrorKind::Destination,
            "not empty",
        ),
        (
            "a missing file",
            |p| {
                p.store.remove(&p.store.diff(0, "etc/passwd"));
                Extractor::new().extract(&p.open().image(IMAGE).unwrap(), p.out()).unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "etc/passwd",
        ),
        (
            "a twisted layer",
            |p| {
                p.store.lines(0, |lines| lines.swap(0, 1));
                p.open().layer(&p.store.layers[0].id).unwrap().export(std::io::sink(), Verify::Crc).unwrap_err().into()
            },
            ErrorKind::Corrupt,
            "layer",
        ),
    ];
    for (what, cause, kind, object) in table {
        let error = cause(&Place::new(&two_layers()));
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(error.to_string().contains(object), "{what}: {error}");
        assert!(!error.to_string().contains('\n'), "{what}: {error}");
    }
}

#[test]
fn digests_and_ids_are_checked_values() {
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let empty = Digest::of(b"");
    assert_eq!((empty.to_string(), empty.hex()), (format!("sha256:{hex}"), hex.to_owned()));
    assert_eq!(format!("{empty:?}"), empty.to_string());
    let id: ImageId = hex.parse().unwrap();
    assert_eq!((id.to_string(), id.short()), (hex.to_owned(), hex[..12].to_owned()));
    assert_eq!(hex.parse::<LayerId>().unwrap().to_string(), hex);
    assert_eq!(serde_json::to_value((empty, id)).unwrap(), json!([format!("sha256:{hex}"), hex]));
    assert_eq!(
        serde_json::from_value::<(Digest, ImageId)>(json!([format!("sha256:{hex}"), hex])).unwrap(),
        (empty, id)
    );
    let upper = hex.to_uppercase();
    for bad in ["", &hex[1..], &upper, "../../../etc/passwd", &format!("sha512:{hex}"), &format!("{hex} ")] {
        assert!(bad.parse::<ImageId>().is_err() && bad.parse::<LayerId>().is_err(), "{bad:?}");
        assert!(bad.parse::<Digest>().is_err() && format!("sha256:{bad}").parse::<Digest>().is_err(), "{bad:?}");
        assert!(serde_json::from_value::<ImageId>(json!(bad)).is_err(), "{bad:?}");
    }
    assert!(hex.parse::<Digest>().is_err(), "a digest names its algorithm");
    assert_eq!(Escaped(b"a\x1b[31m\xff\n").to_string().bytes().filter(u8::is_ascii_control).count(), 0);
}
