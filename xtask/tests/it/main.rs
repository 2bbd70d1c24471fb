//! Checks over this checkout: dependency direction, the front door, tidiness.

mod dependencies;
mod front_door;
mod tidy;
