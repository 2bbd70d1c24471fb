//! What the cluster knows and the rules for changing it: records, image, rules, config keys.
