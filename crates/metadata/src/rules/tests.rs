//! Rules from the outside: commands on an image, told as text.
