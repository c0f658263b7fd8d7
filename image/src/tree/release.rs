//! `/usr/lib/os-release`: who we are, in the words of os-release(5).

use layout::Version;

/// What an image says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Version of the image.
    pub version: Version,
    /// The commit it was built from.
    pub build_id: String,
    /// `cloud` or `generic`.
    pub flavor: String,
}

impl Release {
    /// The text of os-release; the UKI carries the same.
    pub fn os_release(&self) -> String {
        let Self { version, build_id, flavor } = self;
        // The version of the system without the build that this image is: 0.1.0 of 0.1.0-2026….
        let (of_system, _) = version.as_str().split_once('-').unwrap_or((version.as_str(), ""));
        format!(
            "NAME=\"PithOS\"\n\
             PRETTY_NAME=\"PithOS {version}\"\n\
             ID=pithos\n\
             ID_LIKE=debian\n\
             VERSION=\"{version}\"\n\
             VERSION_ID={of_system}\n\
             VARIANT_ID={flavor}\n\
             BUILD_ID={build_id}\n\
             IMAGE_ID=pithos\n\
             IMAGE_VERSION={version}\n\
             DEFAULT_HOSTNAME=pithos\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_system_is_that_of_the_image_without_its_build() {
        let release = Release {
            version: "0.1.0-202611210930".parse().unwrap(),
            build_id: "0123abc-dirty".to_owned(),
            flavor: "cloud".to_owned(),
        };
        let text = release.os_release();
        assert!(text.contains("\nVERSION_ID=0.1.0\n"), "{text}");
        assert!(text.contains("\nIMAGE_VERSION=0.1.0-202611210930\n"), "{text}");
        assert!(text.lines().all(|line| line.split_once('=').is_some()), "{text}");
    }
}
