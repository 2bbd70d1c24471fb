//! The controller: orders metadata changes and publishes the image.
