// Copyright The o2image authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"o2image/internal/ocfs2test/uml"
	"o2image/internal/ocfs2test/volpack"
)

// bootTime bounds one boot. Most take seconds; 20000 files, or a volume that is
// filled to the last cluster, take a minute.
const bootTime = 10 * time.Minute

// build builds volumes in dir. It tries all, and fails if one of them failed.
func build(ctx context.Context, seed string, specs []spec, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	failed := 0
	for _, s := range specs {
		start := time.Now()
		b := builder{spec: s, seed: seed + "-" + s.name, prefix: filepath.Join(dir, s.name)}
		err := b.build(ctx)
		if logErr := os.WriteFile(b.prefix+".log", b.log.Bytes(), 0o644); err == nil {
			err = logErr
		}
		if err != nil {
			failed++
			log.Printf("%s: %v", s.name, err)
		} else {
			log.Printf("%s: %.1f s", s.name, time.Since(start).Seconds())
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d volumes failed", failed, len(specs))
	}
	return nil
}

// builder builds one volume.
type builder struct {
	spec
	seed      string
	prefix    string // of its files: DIR/NAME
	bs, cs    int    // block and cluster size, bytes
	heartbeat int    // first block of the heartbeat file, where there is one
	log       bytes.Buffer
}

func (b *builder) build(ctx context.Context) error {
	for _, kind := range append(volpack.Parts, volpack.Image) {
		if err := os.Remove(b.file(kind)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := b.format(ctx); err != nil {
		return err
	}
	var secrets []byte
	options := b.options
	_, crash := b.flag("crash")
	for i, operations := range b.phases {
		last := i == len(b.phases)-1
		fill := fmt.Sprintf("fill -seed %s-%d -bs %d -cs %d", b.seed, i+1, b.bs, b.cs)
		if crash && last {
			fill += " -crash"
		}
		pre := ""
		if nodes, ok := b.flag("cluster"); ok {
			node := strings.Split(nodes, "+")[i]
			options = strings.ReplaceAll(b.options, "=N", "="+node)
			pre = b.startCluster(node)
			if err := os.WriteFile(b.file("pre"), []byte(pre), 0o644); err != nil {
				return err
			}
		}
		found, err := b.boot(ctx, b.file(volpack.Image), pre, options, fill, operations)
		if err != nil {
			return err
		}
		secrets = append(secrets, found...)
	}
	if crash {
		if err := b.recover(ctx, options); err != nil {
			return err
		}
	}
	size, err := os.Stat(b.file(volpack.Image))
	if err != nil {
		return err
	}
	info := fmt.Sprintf("name=%s\nsize=%d\nblocksize=%d\nclustersize=%d\nflags=%s\nmountopts=%s\nmkfs=%s\nops=%s\n",
		b.name, size.Size(), b.bs, b.cs, strings.Join(b.flags, ","), options, strings.Join(b.mkfs, " "), b.operations())
	return errors.Join(os.WriteFile(b.file("info"), []byte(info), 0o644), os.WriteFile(b.file("secrets"), secrets, 0o644))
}

func (b *builder) file(kind string) string { return b.prefix + "." + kind }

func (b *builder) operations() string {
	if b.phases == nil {
		return "-"
	}
	return strings.Join(b.phases, " / ")
}

// uuid makes the UUID of a volume from its seed.
func (b *builder) uuid() string {
	sum := sha256.Sum256([]byte("uuid " + b.seed))
	return fmt.Sprintf("%X", sum[:16])
}

// format makes the volume with mkfs.ocfs2 and learns its geometry.
func (b *builder) format(ctx context.Context) error {
	size, err := parseSize(b.size)
	if err != nil {
		return err
	}
	img := b.file(volpack.Image)
	if err := os.WriteFile(img, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(img, size); err != nil {
		return err
	}
	args := append([]string{"-F", "-q", "-U", b.uuid(), "-L", b.name}, b.mkfs...)
	args = append(args, img)
	if b.blocks != "" {
		args = append(args, b.blocks)
	}
	if _, err := b.tool(ctx, "mkfs.ocfs2", args...); err != nil {
		return err
	}
	stats, err := b.tool(ctx, "debugfs.ocfs2", "-R", "stats", img)
	if err != nil {
		return err
	}
	bits := regexp.MustCompile(`Block Size Bits: (\d+)\s+Cluster Size Bits: (\d+)`).FindStringSubmatch(stats)
	if bits == nil {
		return errors.New("debugfs.ocfs2 tells no block size")
	}
	for i, size := range []*int{&b.bs, &b.cs} {
		n, err := strconv.Atoi(bits[1+i])
		if err != nil {
			return err
		}
		*size = 1 << n
	}
	if _, ok := b.flag("cluster"); !ok {
		return nil
	}
	stat, err := b.tool(ctx, "debugfs.ocfs2", "-R", "stat //heartbeat", img)
	if err != nil {
		return err
	}
	extent := regexp.MustCompile(`Offset\s+Clusters\s+Block#.*\n\s*\d+\s+\d+\s+\d+\s+(\d+)`).FindStringSubmatch(stat)
	if extent == nil {
		return errors.New("debugfs.ocfs2 tells no place of the heartbeat")
	}
	b.heartbeat, err = strconv.Atoi(extent[1])
	return err
}

// tool runs one of the C tools, answering yes, and returns what it prints. The
// processes that mkfs.ocfs2 forks all buffer from the same input, so that it
// takes more than one answer.
func (b *builder) tool(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(strings.Repeat("y\n", 1<<15))
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PAGER=cat")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return string(out), nil
}

// startCluster returns the commands that start the o2cb stack in the machine,
// with a node of this number only, and its heartbeat on the volume.
func (b *builder) startCluster(node string) string {
	return fmt.Sprintf(`busybox insmod /mod/ocfs2_dlm.ko
busybox insmod /mod/ocfs2_stack_o2cb.ko
busybox ifconfig lo 127.0.0.1 up
busybox mount -t configfs none /sys/kernel/config
echo o2cb >/sys/fs/ocfs2/cluster_stack
cl=/sys/kernel/config/cluster/corpus
busybox mkdir $cl $cl/node/guest
echo 7777 >$cl/node/guest/ipv4_port
echo 127.0.0.1 >$cl/node/guest/ipv4_address
echo %s >$cl/node/guest/num
echo 1 >$cl/node/guest/local
hb=$cl/heartbeat/%s
busybox mkdir $hb
echo 512 >$hb/block_bytes
echo %d >$hb/start_block
echo 255 >$hb/blocks
exec 5<>/dev/ubda
echo 5 >$hb/dev
`, node, b.uuid(), b.heartbeat*b.bs/512)
}

// boot runs the guest program on the volume img, mounted, and fetches the truth
// that it leaves; the secrets it returns.
func (b *builder) boot(ctx context.Context, img, pre, options, command, operations string) (secrets []byte, err error) {
	dir, err := os.MkdirTemp("", "corpus-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	m, err := uml.New(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	console, err := m.Boot(ctx, fmt.Sprintf(`%s
if busybox mount -t ocfs2 -o "%s" /dev/ubda /mnt/v; then
	/guest %s -root /mnt/v -out /job/out %s
	status=$?
	busybox umount /mnt/v || status=umount
	echo $status >/job/out.status
fi
busybox dmesg >/job/dmesg
`, pre, options, command, operations), img)
	b.log.WriteString(console)
	status, statusErr := os.ReadFile(m.Job("out.status"))
	if strings.TrimSpace(string(status)) != "0" {
		dmesg, _ := os.ReadFile(m.Job("dmesg")) // missing if the machine died
		b.log.Write(dmesg)
		return nil, fmt.Errorf("guest: status %q, see %s: %w", status, b.file("log"), errors.Join(err, statusErr))
	}
	for _, kind := range []string{"manifest", "extents"} {
		content, err := os.ReadFile(m.Job("out." + kind))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(b.file(kind), content, 0o644); err != nil {
			return nil, err
		}
	}
	secrets, err = os.ReadFile(m.Job("out.secrets"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a walk writes none
	}
	return secrets, err
}

// recover takes the truth about a volume that was cut off: what the kernel finds
// when it has replayed the journal of a copy.
func (b *builder) recover(ctx context.Context, options string) error {
	dir, err := os.MkdirTemp(filepath.Dir(b.prefix), ".recover-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	img := filepath.Join(dir, "copy")
	if err := volpack.CopySparse(img, b.file(volpack.Image)); err != nil {
		return err
	}
	_, err = b.boot(ctx, img, "", options, "walk", "")
	return err
}

// parseSize reads a size in bytes with a suffix M, G or T (powers of 1024).
func parseSize(s string) (int64, error) {
	for suffix, shift := range map[string]int{"M": 20, "G": 30, "T": 40} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.ParseInt(digits, 10, 32)
			return n << shift, err
		}
	}
	return 0, fmt.Errorf("size %q", s)
}
