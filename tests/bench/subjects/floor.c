/*
 * The floor: the same messages over the same hops as the stack, with blocking calls and no work.
 *
 *   floor chain     A --tick, TCP--> B --shared memory + futex--> C --order, TCP--> D --ACK, TCP--> C
 *                   A = gateway, B = orderbook, C = strategy, D = order manager
 *   floor echo      C --order, TCP--> D --ACK, TCP--> C
 *   floor bandwidth A --tick bytes, large sends, TCP--> B, received into one reused buffer
 *
 * Options are key=value:
 *   rate=2000       scheduled sends per second (open loop); echo: 0 = as fast as answers come
 *   count=4000      ticks or orders, of which the first warmup=200 are left out
 *   cpus=0/1/0/1    a CPU list per process in the order A/B/C/D, as in `taskset -c`; empty = anywhere
 *   into=PID:IP/..  chain: each process enters the network and the CPU control group of a container's
 *                   process first, whose address is IP; needs root
 *   commit=PATH     chain, echo: D writes 200 bytes to PATH and calls fdatasync before each ACK; the
 *                   file has its size already, as a write-ahead log in use has, so that only data moves
 *   file=PATH bytes=N chunk=N   bandwidth: what to send, how much of it, how much per call
 *
 * Prints one JSON object; times are in microseconds.  Latency counts from the *scheduled* send, so a
 * send that comes late because the machine stalled is not forgiven.
 */
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
    _Alignas(64) _Atomic uint32_t tail;    /* ticks C is done with */
    _Alignas(64) _Atomic int ready;        /* processes connected and waiting */
    int64_t start_ns;                      /* schedule of tick 0 */
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

/* The which-th part of a list with slashes. */
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

/* Join the control group that shares out CPU time to process `pid`: version 1 ("1:cpu:/docker/..")
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

/* Where the which-th process is reached. */
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

/* ---- processes ---------------------------------------------------------------------------- */

static void say_ready(void) { atomic_fetch_add(&shared->ready, 1); }

static void wait_ready(int others) {
    while (atomic_load(&shared->ready) < others) usleep(200);
    usleep(2000); /* they said so just before they block */
}

static int64_t schedule(long i) { return shared->start_ns + (int64_t)(i * (1e9 / opt.rate)); }

static void gateway(void) { /* A */
    int fd = accept_one(price_listener);
    prctl(PR_SET_TIMERSLACK, 1UL); /* the default lets the kernel wake us 50 us late */
    wait_ready(3);
    shared->start_ns = now_ns() + 1000000;
    for (long i = 0; i < opt.count; i++) {
        sleep_until(schedule(i));
        send_all(fd, TICK_TEXT, TICK);
    }
    close(fd);
}

static void orderbook(void) { /* B */
    int fd = connect_to(price_listener);
    static char buffer[SLOTS * TICK / 2];
    size_t have = 0;
    say_ready();
    for (uint32_t head = 0;;) {
        ssize_t part = recv(fd, buffer + have, sizeof buffer - have, 0);
        if (part < 0) die("recv tick");
        if (part == 0) return;
        int64_t recv_ns = now_ns();
        have += part;
        size_t ticks = have / TICK;
        while (head + ticks - atomic_load_explicit(&shared->tail, memory_order_acquire) > SLOTS)
            usleep(100);
        for (size_t i = 0; i < ticks; i++, head++) {
            Slot *slot = &shared->slots[head % SLOTS];
            memcpy(slot->text, buffer + i * TICK, TICK);
            slot->recv_ns = recv_ns;
        }
        have -= ticks * TICK;
        memmove(buffer, buffer + ticks * TICK, have);
        atomic_store(&shared->head, head);
        if (atomic_exchange(&shared->waiting, 0))
            syscall(SYS_futex, &shared->head, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

static void strategy(void) { /* C */
    int fd = connect_to(order_listener);
    char order[ORDER], ack[ACK];
    memset(order, 'o', ORDER);
    say_ready();
    for (uint32_t tail = 0; tail < opt.count;) {
        uint32_t head = atomic_load(&shared->head);
        if (head == tail) {
            atomic_store(&shared->waiting, 1);
            if (atomic_load(&shared->head) == tail)
                syscall(SYS_futex, &shared->head, FUTEX_WAIT, tail, NULL, NULL, 0);
            continue;
        }
        for (; tail != head; tail++) {
            Slot *slot = &shared->slots[tail % SLOTS];
            memcpy(order, slot->text, TICK);
            stamps[tail].recv_ns = slot->recv_ns;
            send_all(fd, order, ORDER);
            if (!recv_all(fd, ack, ACK)) die("ACK");
            stamps[tail].ack_ns = now_ns();
            atomic_store_explicit(&shared->tail, tail + 1, memory_order_release);
        }
    }
    close(fd);
}

static int open_log(void) {
    int log = open(opt.commit, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    char record[COMMIT] = {0};
    for (long i = 0; i < opt.count; i++)
        if (write(log, record, COMMIT) != COMMIT) die(opt.commit);
    if (fsync(log) || lseek(log, 0, SEEK_SET)) die(opt.commit);
    return log;
}

static void order_manager(void) { /* D */
    int fd = accept_one(order_listener), log = -1;
    char order[ORDER], ack[ACK], record[COMMIT];
    memset(ack, 'a', ACK);
    memset(record, 'r', COMMIT);
    if (*opt.commit) log = open_log();
    say_ready();
    for (long i = 0; recv_all(fd, order, ORDER); i++) {
        if (log >= 0) {
            int64_t before = now_ns();
            if (write(log, record, COMMIT) != COMMIT || fdatasync(log)) die("commit");
            if (i < opt.count) stamps[i].commit_ns = now_ns() - before;
        }
        send_all(fd, ack, ACK);
    }
}

static void echo_client(void) { /* C alone: orders at the scheduled times, or back to back */
    int fd = connect_to(order_listener);
    char order[ORDER], ack[ACK];
    memset(order, 'o', ORDER);
    prctl(PR_SET_TIMERSLACK, 1UL);
    wait_ready(1);
    shared->start_ns = now_ns() + 1000000;
    for (long i = 0; i < opt.count; i++) {
        if (opt.rate > 0) sleep_until(schedule(i));
        if (i == opt.warmup) shared->first_ns = now_ns();
        stamps[i].recv_ns = opt.rate > 0 ? schedule(i) : now_ns();
        send_all(fd, order, ORDER);
        if (!recv_all(fd, ack, ACK)) die("ACK");
        stamps[i].ack_ns = now_ns();
    }
    shared->last_ns = now_ns();
    close(fd);
}

static void sender(void) {
    int fd = accept_one(price_listener), file = open(opt.file, O_RDONLY);
    struct stat info;
    if (file < 0 || fstat(file, &info) || info.st_size == 0) die(opt.file);
    char *data = mmap(NULL, info.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (data == MAP_FAILED) die("mmap");
    wait_ready(1);
    int64_t at = 0;
    for (int64_t sent = 0; sent < opt.bytes;) {
        int64_t size = opt.chunk;
        if (size > info.st_size - at) size = info.st_size - at;
        if (size > opt.bytes - sent) size = opt.bytes - sent;
        send_all(fd, data + at, size);
        sent += size;
        at = at + size == info.st_size ? 0 : at + size;
    }
    close(fd);
}

static void receiver(void) {
    int fd = connect_to(price_listener);
    char *buffer = malloc(opt.chunk);
    memset(buffer, 0, opt.chunk);
    int64_t got = 0;
    say_ready();
    for (ssize_t part; (part = recv(fd, buffer, opt.chunk, 0)) != 0; got += part) {
        if (part < 0) die("recv");
        if (got == 0) shared->first_ns = now_ns();
    }
    shared->last_ns = now_ns();
    if (got != opt.bytes) die("bytes lost");
}

/* Run the processes; kill all when one fails. */
static void run(int n, void (*const roles[])(void), const int places[]) {
    pid_t children[MAX_PROCESSES], parent = getpid();
    fflush(stdout);
    for (int i = 0; i < n; i++) {
        if ((children[i] = fork()) < 0) die("fork");
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) _exit(1);
            enter(places[i]);
            place(places[i]);
            roles[i]();
            _exit(0);
        }
    }
    int failed = 0, status;
    for (int left = n; left > 0; left--) {
        wait(&status);
        if (status && !failed) {
            failed = 1;
            for (int i = 0; i < n; i++) kill(children[i], SIGKILL);
        }
    }
    if (failed) exit(1);
}

/* ---- figures ------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_percentiles(const char *name, int64_t *ns, long n) {
    static const struct { const char *name; double at; } POINTS[] = {
        {"p1", 1}, {"p10", 10}, {"p25", 25}, {"p50", 50}, {"p75", 75}, {"p90", 90},
        {"p95", 95}, {"p99", 99}, {"p99_9", 99.9}, {"max", 100}};
    qsort(ns, n, sizeof *ns, by_value);
    printf("\"%s\": {", name);
    for (size_t i = 0; i < sizeof POINTS / sizeof *POINTS; i++) {
        long rank = (long)(POINTS[i].at / 100 * n + 0.999999) - 1; /* nearest rank */
        printf("%s\"%s\": %.3f", i ? ", " : "", POINTS[i].name, ns[rank < 0 ? 0 : rank] / 1e3);
    }
    printf("}");
}

static int64_t recv_to_ack(long i) { return stamps[i].ack_ns - stamps[i].recv_ns; }
static int64_t scheduled_to_ack(long i) { return stamps[i].ack_ns - schedule(i); }
static int64_t scheduled_to_recv(long i) { return stamps[i].recv_ns - schedule(i); }
static int64_t commit_time(long i) { return stamps[i].commit_ns; }

static void print_latency(const char *name, int64_t (*value)(long)) {
    long n = opt.count - opt.warmup;
    int64_t *ns = malloc(n * sizeof *ns);
    for (long i = 0; i < n; i++) ns[i] = value(i + opt.warmup);
    print_percentiles(name, ns, n);
    free(ns);
}

static void chain(void) {
    void (*const roles[])(void) = {gateway, orderbook, strategy, order_manager};
    run(4, roles, (const int[]){0, 1, 2, 3});
    print_latency("recv_to_ack_us", recv_to_ack);
    printf(", ");
    print_latency("scheduled_to_ack_us", scheduled_to_ack);
    printf(", ");
    print_latency("scheduled_to_recv_us", scheduled_to_recv);
    if (*opt.commit) {
        printf(", ");
        print_latency("commit_us", commit_time);
    }
}

static void echo(void) {
    void (*const roles[])(void) = {echo_client, order_manager};
    run(2, roles, (const int[]){2, 3});
    print_latency("round_trip_us", recv_to_ack);
    double seconds = (shared->last_ns - shared->first_ns) / 1e9;
    printf(", \"round_trips_per_s\": %.1f", (opt.count - opt.warmup) / seconds);
    if (*opt.commit) {
        printf(", ");
        print_latency("commit_us", commit_time);
    }
}

static void bandwidth(void) {
    void (*const roles[])(void) = {sender, receiver};
    run(2, roles, (const int[]){0, 1});
    double seconds = (shared->last_ns - shared->first_ns) / 1e9;
    printf("\"bytes_per_s\": %.0f, \"seconds\": %.6f", opt.bytes / seconds, seconds);
}

static int option(const char *text) {
    const char *value = strchr(text, '=');
    if (!value) return 0;
    size_t n = value++ - text;
#define IS(name) (n == sizeof name - 1 && !memcmp(text, name, n))
    if (IS("rate")) opt.rate = atof(value);
    else if (IS("count")) opt.count = atol(value);
    else if (IS("warmup")) opt.warmup = atol(value);
    else if (IS("chunk")) opt.chunk = atol(value);
    else if (IS("bytes")) opt.bytes = atoll(value);
    else if (IS("cpus")) opt.cpus = value;
    else if (IS("commit")) opt.commit = value;
    else if (IS("file")) opt.file = value;
    else if (IS("into")) opt.into = value;
    else return 0;
    return 1;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    for (int i = 2; i < argc; i++)
        if (!option(argv[i])) {
            fprintf(stderr, "floor: unknown option %s\n", argv[i]);
            return 2;
        }
    if (opt.warmup < 0 || opt.count <= opt.warmup || opt.chunk < 1 || opt.bytes < 1) {
        fprintf(stderr, "floor: count must be above warmup, chunk and bytes above 0\n");
        return 2;
    }
    size_t size = sizeof *shared + opt.count * sizeof *stamps;
    shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE,
                  -1, 0);
    if (shared == MAP_FAILED) die("mmap");
    stamps = (Stamp *)(shared + 1);
    price_listener = listener(0);
    order_listener = listener(3);
    printf("{");
    if (!strcmp(mode, "chain")) chain();
    else if (!strcmp(mode, "echo")) echo();
    else if (!strcmp(mode, "bandwidth")) bandwidth();
    else {
        fprintf(stderr, "floor: chain, echo or bandwidth\n");
        return 2;
    }
    printf("}\n");
    return 0;
}
