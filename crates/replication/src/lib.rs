//! One replica of one partition: log, role, high watermark, parked acks.
