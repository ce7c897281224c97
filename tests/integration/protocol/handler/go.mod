module shop

go 1.24

// What this one requires is added where it is built: its names are those of a registry.
require github.com/nats-io/nats.go v1.47.0
