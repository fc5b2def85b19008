//! Which images were made from which: an unnamed image with a child is intermediate, one without is dangling.
//!
//! The child has all layers of its parent and one step of history more (libimage/oci.go, `areParentAndChild`), so only
//! images with the same top layer, or with one on top of it, come into question (libimage/layer_tree.go).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use cstor_proto::LayerId;

use super::Listed;
use crate::base::digest::Digest;
use crate::storage::{History, Image};
use crate::store::StoreError;
use crate::tar::Time;

/// The images by what they stand on.
pub(super) struct Family<'a> {
    images: &'a [Listed],
    /// By top layer, and by the layer below that; `None` holds images without layers.
    near: HashMap<Option<LayerId>, Vec<usize>>,
    configs: RefCell<HashMap<usize, Option<Rc<Ancestry>>>>,
}

/// What a configuration says about where its image is from.
struct Ancestry {
    diff_ids: Vec<Digest>,
    history: Vec<History>,
}

impl<'a> Family<'a> {
    pub(super) fn new(images: &'a [Listed]) -> Family<'a> {
        let mut near: HashMap<_, Vec<usize>> = HashMap::new();
        for (place, listed) in images.iter().enumerate() {
            near.entry(listed.top).or_default().push(place);
            if let Some(below) = listed.below {
                near.entry(Some(below)).or_default().push(place);
            }
        }
        Family { images, near, configs: RefCell::default() }
    }

    /// Whether any image was made from this one.
    pub(super) fn has_child(&self, parent: usize) -> bool {
        let top = self.images.get(parent).and_then(|listed| listed.top);
        let near = self.near.get(&top).map(Vec::as_slice).unwrap_or_default();
        near.iter().any(|&child| child != parent && self.is_child(parent, child))
    }

    fn is_child(&self, parent: usize, child: usize) -> bool {
        let (Some(parent), Some(child)) = (self.ancestry(parent), self.ancestry(child)) else { return false };
        child.diff_ids.starts_with(&parent.diff_ids)
            && child.history.len() == parent.history.len() + 1
            && parent.history.iter().zip(&child.history).all(|(one, other)| same_step(one, other))
    }

    /// `None` where there is no configuration, or it is damaged: then nothing is known.
    fn ancestry(&self, place: usize) -> Option<Rc<Ancestry>> {
        if let Some(known) = self.configs.borrow().get(&place) {
            return known.clone();
        }
        let image = &self.images.get(place)?.image;
        let read = match read(image) {
            Ok(read) => Some(Rc::new(read)),
            Err(error) => {
                tracing::debug!(image = %image.id(), %error, "not known what it was made from");
                None
            }
        };
        self.configs.borrow_mut().insert(place, read.clone());
        read
    }
}

fn read(image: &Image) -> Result<Ancestry, StoreError> {
    let config = image.config()?;
    Ok(Ancestry { diff_ids: config.diff_ids(image.id())?, history: config.history().to_vec() })
}

fn same_step(one: &History, other: &History) -> bool {
    let when =
        |step: &History| step.created.as_deref().map(|created| Time::parse_rfc3339(created).ok_or(created.to_owned()));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    when(one) == when(other)
        && text(&one.created_by) == text(&other.created_by)
        && text(&one.author) == text(&other.author)
        && text(&one.comment) == text(&other.comment)
        && one.empty_layer == other.empty_layer
}
