module o2image/bench

go 1.26.0

require (
	github.com/hanwen/go-fuse/v2 v2.12.1
	golang.org/x/sys v0.49.0
	o2image v0.0.0
)

require (
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/moby/sys/mountinfo v0.7.3 // indirect
	golang.org/x/sync v0.24.0 // indirect
)

replace o2image => ../
