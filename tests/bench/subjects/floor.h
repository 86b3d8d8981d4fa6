/*
 * What every process of the floor shares: options, shared memory, time, placement, sockets.
 */
#ifndef FLOOR_H
#define FLOOR_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TICK = 32, ORDER = 90, ACK = 120, COMMIT = 200, SLOTS = 4096, MAX_PROCESSES = 4 };

static const char TICK_TEXT[TICK + 1] = "2025-10-01 09:30:00*AAPL*187.25*";

typedef struct {
    char text[TICK];
    int64_t recv_ns;
    char pad[64 - TICK - 8];
} Slot;
_Static_assert(sizeof(Slot) == 64, "a slot is one cache line");

typedef struct {
    _Alignas(64) _Atomic uint32_t head;    /* ticks written; the futex word */
    _Alignas(64) _Atomic uint32_t waiting; /* 1 while C sleeps or is about to */
    _Alignas(64) _Atomic uint32_t tail;    /* ticks that C has processed */
    _Alignas(64) _Atomic int ready;        /* processes connected and waiting */
    int64_t start_ns;                      /* scheduled send of tick 0 */
    int64_t first_ns, last_ns;             /* echo, bandwidth: span of the measured part */
    Slot slots[SLOTS];
} Shared;

typedef struct {
    int64_t recv_ns, ack_ns, sent_ns, commit_ns;
} Stamp;

static struct {
    double rate;
    long count, warmup, chunk;
    int64_t bytes;
    const char *cpus, *commit, *file, *into;
} opt = {.rate = 2000, .count = 4000, .warmup = 200, .chunk = 1 << 19, .bytes = 1LL << 30,
         .cpus = "", .commit = "", .file = "", .into = ""};

static Shared *shared;
static Stamp *stamps;
static int price_listener, order_listener;

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_until(int64_t when_ns) {
    struct timespec t = {when_ns / 1000000000LL, when_ns % 1000000000LL};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
}

/* ---- placement ---------------------------------------------------------------------------- */

/* The which-th element of a list separated by slashes. */
static const char *part_of(const char *list, int which) {
    for (; which > 0 && *list; list++) which -= *list == '/';
    return list;
}

/* Pin this process to the which-th list of opt.cpus ("0-1,3/2//0"). */
static void place(int which) {
    const char *p = part_of(opt.cpus, which);
    cpu_set_t set;
    CPU_ZERO(&set);
    while (*p >= '0' && *p <= '9') {
        char *end;
        long low = strtol(p, &end, 10), high = low;
        if (*end == '-') high = strtol(end + 1, &end, 10);
        for (long cpu = low; cpu <= high; cpu++) CPU_SET(cpu, &set);
        p = *end == ',' ? end + 1 : end;
    }
    if (CPU_COUNT(&set) && sched_setaffinity(0, sizeof set, &set)) die("sched_setaffinity");
}

/* ---- containers --------------------------------------------------------------------------- */

static void enter_network(long pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/ns/net", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET)) die(path);
    close(fd);
}

/* Join the control group that limits the CPU time of process `pid`: version 1 ("1:cpu:/docker/..")
 * or 2 ("0::/docker/.."). */
static void enter_cpu_group(long pid) {
    char path[512], line[400];
    snprintf(path, sizeof path, "/proc/%ld/cgroup", pid);
    FILE *groups = fopen(path, "re");
    if (!groups) die(path);
    *path = 0;
    while (fgets(line, sizeof line, groups)) {
        line[strcspn(line, "\n")] = 0;
        char *name = strchr(line, ':') + 1, *group = strchr(name, ':');
        *group++ = 0;
        int cpu = !strncmp(name, "cpu", 3) && (name[3] == 0 || name[3] == ',');
        if (cpu || (*name == 0 && *path == 0))
            snprintf(path, sizeof path, "/sys/fs/cgroup/%s%s/cgroup.procs", name, group);
    }
    fclose(groups);
    FILE *procs = fopen(path, "we");
    if (!procs || fprintf(procs, "%d\n", getpid()) < 0 || fclose(procs)) die(path);
}

/* Enter the container of the which-th process. */
static void enter(int which) {
    const char *into = part_of(opt.into, which);
    if (!*into) return;
    enter_cpu_group(atol(into));
    enter_network(atol(into));
}

/* ---- sockets ------------------------------------------------------------------------------ */

/* The address of the which-th process. */
static struct in_addr address_of(int which) {
    struct in_addr address = {.s_addr = htonl(INADDR_LOOPBACK)};
    const char *into = part_of(opt.into, which);
    char text[16] = "";
    if (*into && (sscanf(into, "%*d:%15[0-9.]", text) != 1 || !inet_aton(text, &address))) die(into);
    return address;
}

/* A listening socket in the network of the which-th process. */
static int listener(int which) {
    if (*opt.into) enter_network(atol(part_of(opt.into, which)));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = address_of(which)};
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4))
        die("listen");
    return fd;
}

static int no_delay(int fd) {
    int one = 1;
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one)) die("socket");
    return fd;
}

static int connect_to(int listening) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (getsockname(listening, (struct sockaddr *)&address, &size) ||
        connect(fd, (struct sockaddr *)&address, size))
        die("connect");
    return no_delay(fd);
}

static int accept_one(int listening) { return no_delay(accept(listening, NULL, NULL)); }

static void send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0) die("send");
        data += sent;
        size -= sent;
    }
}

/* Receive exactly size bytes; 0 at the end of the stream. */
static int recv_all(int fd, char *data, size_t size) {
    for (size_t got = 0; got < size;) {
        ssize_t part = recv(fd, data + got, size - got, 0);
        if (part < 0) die("recv");
        if (part == 0) return 0;
        got += part;
    }
    return 1;
}

#endif
