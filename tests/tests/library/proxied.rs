//! A `Storage` with a helper that is started when it is needed.

use crate::again::again;
use crate::place::{IMAGE, Place, at_once, is_root, names, policy, two_layers};
use cstor_client::error::{ExtractError, ImageError, SourceError};
use cstor_client::extract::Extractor;
use cstor_client::helper::{HelperOptions, HelperPolicy, Launcher as LaunchBy};
use cstor_client::{ErrorKind, ProxiedStorage, Storage};
use cstor_tests::lab::skip;
use cstor_tests::run::must;
use std::env;
use std::path::Path;

#[test]
fn a_proxied_storage_is_a_storage() {
    let place = Place::new(&two_layers());
    let root = &place.store.root;
    let waited_for = at_once(ProxiedStorage::open_with_proxy(root)).unwrap();
    let opened = Storage::open(root).unwrap().with_helper(HelperOptions::new());
    for storage in [&waited_for, &opened, &waited_for.clone()] {
        assert_eq!(storage.is_proxied(), !is_root(), "root needs no helper");
        assert_eq!(names(&storage.list_images().unwrap()), [IMAGE]);
        assert_eq!(storage.root(), *root);
        let report = Extractor::new().replace(true).extract(&storage.image(IMAGE).unwrap(), place.out()).unwrap();
        assert_eq!(report.through_helper, 0, "what may be read directly is");
    }
    for (when, proxied) in
        [(HelperPolicy::Never, false), (HelperPolicy::Always, true), (HelperPolicy::Auto, !is_root())]
    {
        let storage = Storage::open(root).unwrap().with_helper(policy(when));
        assert_eq!(storage.is_proxied(), proxied, "{when:?}");
    }
    assert_eq!((HelperPolicy::default(), LaunchBy::default()), (HelperPolicy::Auto, LaunchBy::Auto));
    assert_eq!(HelperOptions::new(), HelperOptions::default());
    assert_ne!(HelperOptions::new().launcher(LaunchBy::Buildah), HelperOptions::new().require_sandbox(true));
    assert!(at_once(ProxiedStorage::open_with_proxy("/nonexistent")).is_err());
}

/// The test executable called `init_if_helper` nowhere and has no `cstor-helper` beside it.
#[test]
fn a_helper_that_cannot_be_found_is_an_error_when_it_is_needed() {
    let place = Place::new(&two_layers());
    let storage = place.open().with_helper(policy(HelperPolicy::Always));
    assert_eq!(storage.list_images().unwrap().len(), 1, "not needed yet");
    let error = Extractor::new().extract(&storage.image(IMAGE).unwrap(), place.out()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Helper, "{error}");
    let ExtractError::Image(error) = error else { panic!("{error}") };
    assert!(matches!(error, ImageError::Source(SourceError::NoHelper { .. })), "{error}");
    assert!(!place.out().exists());
}

#[test]
fn an_interrupt_stops_and_leaves_nothing() {
    let place = Place::new(&two_layers());
    let storage = place.open();
    let image = storage.image(IMAGE).unwrap();
    let extractor = Extractor::new().interrupt(storage.interrupt());
    storage.interrupt().raise();
    let error = extractor.extract(&image, place.out()).unwrap_err();
    assert!(matches!(error, ExtractError::Interrupted(_)), "{error}");
    assert_eq!((error.kind(), place.out().exists()), (ErrorKind::Interrupted, false));
    storage.interrupt().lower();
    assert!(extractor.extract(&image, place.out()).is_ok(), "the interrupt is the caller's");
}

/// Root starts it directly, so that the kernel knows which thread did.
#[test]
fn a_helper_outlives_the_thread_that_started_it() {
    if !is_root() {
        return skip("root alone starts a helper directly");
    }
    let place = Place::new(&two_layers());
    let helper = Path::new(env!("CARGO_BIN_EXE_embedder")).with_file_name("cstor-helper");
    let role = ["thread", place.store.root.to_str().unwrap()];
    must(again(&env::current_exe().unwrap(), &role).env("CSTOR_HELPER", helper));
}
