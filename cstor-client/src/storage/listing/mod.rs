//! All images as a list shows them: with sizes, what they share, and which of them are only steps of a build.
//!
//! Sizes come from layers.json; configurations are read only where a filter or an unnamed image asks for them.

mod family;
mod filter;
mod pattern;

use std::collections::HashMap;

use cstor_proto::LayerId;

use super::image::Image;
use crate::storage::Storage;
use crate::store::StoreError;
use crate::store::chain;
use crate::tar::Time;

pub use filter::{BadFilter, Filter};

/// An image of a list.
#[derive(Debug, Clone)]
pub struct Listed {
    image: Image,
    created: Option<String>,
    /// When it was stored; 1970 where that is no time.
    stored: Time,
    top: Option<LayerId>,
    below: Option<LayerId>,
    shared: u64,
    unique: u64,
    has_child: bool,
}

impl Listed {
    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// When it was built, as RFC 3339: podman takes the time from the configuration when it stores the image
    /// (image/storage/storage_dest.go). Where the store has none, the configuration is asked.
    pub fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }

    /// Its size, as [`Image::size`] gives it.
    pub fn size(&self) -> u64 {
        self.shared.saturating_add(self.unique)
    }

    /// The sizes of those of its layers that other images have too.
    pub fn shared_size(&self) -> u64 {
        self.shared
    }

    /// The sizes of its other layers, and of its manifest and configuration.
    pub fn unique_size(&self) -> u64 {
        self.unique
    }

    /// Whether it has no name, and no image was made from it.
    pub fn is_dangling(&self) -> bool {
        self.image.names().is_empty() && !self.has_child
    }

    /// Whether it has no name, but an image that was made from it: a step of a build.
    pub fn is_intermediate(&self) -> bool {
        self.image.names().is_empty() && self.has_child
    }
}

/// The images of a store that pass all filters, the newest first; intermediate ones only if `all` is set, as podman
/// has it.
pub fn list(storage: &Storage, all: bool, filters: &[Filter]) -> Result<Vec<Listed>, StoreError> {
    let mut listed = measure(storage.list_images()?)?;
    if listed.iter().any(|listed| listed.image.names().is_empty()) {
        let family = family::Family::new(&listed);
        let unnamed = |listed: &Listed| listed.image.names().is_empty();
        let parents: Vec<bool> =
            listed.iter().enumerate().map(|(place, image)| unnamed(image) && family.has_child(place)).collect();
        for (image, has_child) in listed.iter_mut().zip(parents) {
            image.has_child = has_child;
        }
    }
    let ready = filters.iter().map(|filter| filter.prepare(storage)).collect::<Result<Vec<_>, _>>()?;
    let mut shown = Vec::with_capacity(listed.len());
    for image in listed {
        if (all || !image.is_intermediate()) && filter::pass(&ready, &image)? {
            shown.push(image);
        }
    }
    let newest_first = |listed: &Listed| std::cmp::Reverse(listed.created.as_deref().and_then(Time::parse_rfc3339));
    shown.sort_by_cached_key(newest_first);
    Ok(shown)
}

/// Adds up the layers, shared and not, as podman's `system df` does since 5.0 (libimage/disk_usage.go).
fn measure(images: Vec<Image>) -> Result<Vec<Listed>, StoreError> {
    let chains = images.iter().map(|image| chain::records(&image.snapshot, image.record.layer));
    let chains = chains.collect::<Result<Vec<_>, _>>()?;
    let mut users: HashMap<LayerId, u32> = HashMap::new();
    for layer in chains.iter().flatten() {
        *users.entry(layer.id).or_default() += 1;
    }
    let measured = images.into_iter().zip(chains).map(|(image, chain)| {
        let (mut shared, mut unique) = (0u64, 0u64);
        for layer in &chain {
            let sum = if users.get(&layer.id).is_some_and(|&users| users > 1) { &mut shared } else { &mut unique };
            *sum = sum.saturating_add(layer.diff_size.unwrap_or(0));
        }
        let data = image.record.big_data_sizes.values().filter_map(|&size| u64::try_from(size).ok());
        unique = data.fold(unique, u64::saturating_add);
        let created = created(&image);
        Listed {
            stored: image.stored_at().and_then(Time::parse_rfc3339).unwrap_or_default(),
            top: chain.last().map(|layer| layer.id),
            below: chain.last().and_then(|layer| layer.parent),
            image,
            created,
            shared,
            unique,
            has_child: false,
        }
    });
    Ok(measured.collect())
}

/// Go's zero time, which stores have that never knew.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn created(image: &Image) -> Option<String> {
    let stored = image.stored_at();
    if let Some(stored) = stored.filter(|&stored| stored != NEVER) {
        return Some(stored.to_owned());
    }
    match image.config() {
        Ok(config) => config.created().or(stored).map(str::to_owned),
        Err(StoreError::NoBigData { .. }) => stored.map(str::to_owned),
        Err(error) => {
            tracing::warn!(%error, "shown without the time when it was built");
            stored.map(str::to_owned)
        }
    }
}
