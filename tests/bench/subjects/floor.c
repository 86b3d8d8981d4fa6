/*
 * The floor: the same messages over the same hops as the stack, with blocking calls and no work.
 * floor.h has what all of its processes need.
 *
 *   floor chain     A --tick, TCP--> B --shared memory + futex--> C --order, TCP--> D --ACK, TCP--> C
 *                   A = gateway, B = orderbook, C = strategy, D = order manager
 *   floor echo      C --order, TCP--> D --ACK, TCP--> C
 *   floor bandwidth A --tick bytes, large sends, TCP--> B, received into one reused buffer
 *
 * Options are key=value:
 *   rate=2000       scheduled sends per second (open loop); echo: 0 = back to back
 *   count=4000      ticks or orders, of which the first warmup=200 are excluded
 *   cpus=0/1/0/1    a CPU list per process in the order A/B/C/D, as in `taskset -c`; empty = any CPU
 *   into=PID:IP/..  chain: each process first enters the network and the CPU control group of process
 *                   PID of a container with address IP; needs root
 *   commit=PATH     chain, echo: D writes 200 bytes to PATH and calls fdatasync before each ACK; the
 *                   file is preallocated, like a write-ahead log in use, so that only data is written
 *   file=PATH bytes=N chunk=N   bandwidth: file to send, total bytes, bytes per call
 *
 * Prints one JSON object; times are in microseconds.  Scheduled latency counts from the *scheduled*
 * send, so that a send delayed by a stall of the machine counts as latency.
 */
#include "floor.h"

/* ---- processes ---------------------------------------------------------------------------- */

static void report_ready(void) { atomic_fetch_add(&shared->ready, 1); }

static void wait_ready(int others) {
    while (atomic_load(&shared->ready) < others) usleep(200);
    usleep(2000); /* they report ready just before they block */
}

static int64_t schedule(long i) { return shared->start_ns + (int64_t)(i * (1e9 / opt.rate)); }

static void gateway(void) { /* A */
    int fd = accept_one(price_listener);
    prctl(PR_SET_TIMERSLACK, 1UL); /* the default allows the kernel to wake us 50 us late */
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
    report_ready();
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
    report_ready();
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
    report_ready();
    for (long i = 0; recv_all(fd, order, ORDER); i++) {
        if (log >= 0) {
            int64_t before = now_ns();
            if (write(log, record, COMMIT) != COMMIT || fdatasync(log)) die("commit");
            if (i < opt.count) stamps[i].commit_ns = now_ns() - before;
        }
        send_all(fd, ack, ACK);
    }
}

static void echo_client(void) { /* C alone: orders on schedule, or back to back */
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
    report_ready();
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
