#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* ---- Checks ---------------------------------------------------------------------------------- */

/* What the main thread, or whoever came last, waits for: told when the deadline passes. */
static _Atomic(const char *) awaited = NULL;
static _Atomic int awaited_line = 0;

static void quit(void) {
    fflush(NULL);
    _exit(1);
}

void check_failed(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: failed: %s\n    errno: %s\n    ahoy_last_error: \"%s\"\n", file, line,
            what, strerror(errno), ahoy_last_error());
    quit();
    abort();
}

void check_equal(const char *file, int line, const char *what, const char *wanted, long long actual,
                 long long expected) {
    if (actual == expected) return;
    fprintf(stderr, "%s:%d: %s is %lld, not %s (%lld)\n    ahoy_last_error: \"%s\"\n", file, line,
            what, actual, wanted, expected, ahoy_last_error());
    quit();
}

void check_status(const char *file, int line, const char *what, int32_t actual, int32_t expected) {
    if (actual == expected) return;
    fprintf(stderr, "%s:%d: %s is %s (%d), not %s\n    ahoy_last_error: \"%s\"\n", file, line, what,
            ahoy_status_name(actual), actual, ahoy_status_name(expected), ahoy_last_error());
    quit();
}

void check_text(const char *file, int line, const char *what, const char *actual,
                const char *expected) {
    if (strcmp(actual, expected) == 0) return;
    fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", file, line, what, actual, expected);
    quit();
}

void wait_begin(const char *file, int line, const char *what) {
    (void)file;
    awaited_line = line;
    awaited = what;
}

void wait_moment(void) {
    nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

void wait_end(void) {
    awaited = NULL;
}

static long environment_number(const char *name) {
    const char *text = getenv(name);
    long number = text ? atol(text) : 0;
    return number > 1 ? number : 1;
}

/* Runs on the main thread (the library's threads block all signals): only calls that are safe here. */
static void on_deadline(int signal) {
    (void)signal;
    static const char head[] = "deadline passed; waiting for: ";
    const char *what = awaited;
    if (!what) what = "(nothing that says so)";
    char line[16];
    size_t at = sizeof line;
    line[--at] = '\n';
    for (int number = awaited_line; number > 0; number /= 10) line[--at] = (char)('0' + number % 10);
    line[--at] = ' ', line[--at] = ':';
    ssize_t ignored = write(STDERR_FILENO, head, sizeof head - 1);
    ignored = write(STDERR_FILENO, what, strlen(what));
    ignored = write(STDERR_FILENO, line + at, sizeof line - at);
    (void)ignored;
    _exit(124);
}

void deadline_seconds(unsigned seconds) {
    alarm(seconds * (unsigned)environment_number("TEST_SCALE"));
}

#ifdef __SANITIZE_THREAD__
static void *nothing(void *arg) {
    return arg;
}
#endif

__attribute__((constructor)) static void begin(void) {
    signal(SIGALRM, on_deadline);
    deadline_seconds(60);
#ifdef __SANITIZE_THREAD__
    /* With the first thread comes one of the sanitizer's own, which stays: no test should count it. */
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, nothing, NULL) && !pthread_join(thread, NULL));
#endif
}

long rounds(long count) {
    long fewer = count / environment_number("TEST_ROUNDS_DIVISOR");
    return fewer > 0 ? fewer : 1;
}

bool is_slow(void) {
    return environment_number("TEST_ROUNDS_DIVISOR") > 1;
}

long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void skip_test(const char *reason) {
    puts(reason);
    fflush(NULL);
    _exit(77);
}

/* ---- Latches --------------------------------------------------------------------------------- */

void latch_add(latch *latch, long amount) {
    pthread_mutex_lock(&latch->mutex);
    latch->count += amount;
    pthread_cond_broadcast(&latch->changed);
    pthread_mutex_unlock(&latch->mutex);
}

long latch_count(latch *latch) {
    pthread_mutex_lock(&latch->mutex);
    long count = latch->count;
    pthread_mutex_unlock(&latch->mutex);
    return count;
}

void latch_wait_at(const char *file, int line, const char *what, latch *latch, long count) {
    wait_begin(file, line, what);
    pthread_mutex_lock(&latch->mutex);
    while (latch->count < count) pthread_cond_wait(&latch->changed, &latch->mutex);
    pthread_mutex_unlock(&latch->mutex);
    wait_end();
}

/* ---- Servers --------------------------------------------------------------------------------- */

bool has_uring(void) {
    static atomic_int answer; /* 0: not asked yet */
    ahoy_server server;
    ahoy_server_options options = OPTIONS(.driver = AHOY_DRIVER_URING, .workers = 1);
    if (answer) return answer > 0;
    ahoy_status status = ahoy_server_start(&options, &server);
    if (status == AHOY_OK) ahoy_server_free(server);
    else CHECK_STATUS(status, AHOY_ERR_UNSUPPORTED);
    answer = status == AHOY_OK ? 1 : -1;
    return answer > 0;
}

void need_uring(void) {
    if (getenv("TEST_VALGRIND")) skip_test("Valgrind holds all threads up while one of them waits in io_uring_enter");
    if (!has_uring()) skip_test("no io_uring here");
}

ahoy_server start(ahoy_server_options options) {
    ahoy_server server = { 0 };
    const char *driver = getenv("TEST_DRIVER");
    /* A loop of one's own runs on epoll. */
    bool is_open = driver && !options.driver && options.workers != AHOY_WORKERS_NONE;
    if (is_open && !strcmp(driver, "epoll")) options.driver = AHOY_DRIVER_EPOLL;
    if (is_open && !strcmp(driver, "either")) options.driver = has_uring() ? AHOY_DRIVER_URING : AHOY_DRIVER_EPOLL;
    if (is_open && !strcmp(driver, "uring")) {
        need_uring();
        options.driver = AHOY_DRIVER_URING;
    }
    CHECK_OK(ahoy_server_start(&options, &server));
    CHECK(server.id != 0);
    return server;
}

ahoy_stats stats_of(ahoy_server server) {
    ahoy_stats stats = { .size = sizeof stats };
    CHECK_OK(ahoy_server_stats(server, &stats));
    CHECK_EQ(stats.size, sizeof stats);
    return stats;
}

void tally_open(ahoy_conn conn, void *user) {
    tally *seen = user;
    seen->conn = conn.id;
    latch_add(&seen->opened, 1);
}

void tally_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)conn;
    tally *seen = user;
    CHECK(data != NULL && len > 0);
    latch_add(&seen->bytes, (long)len);
    latch_add(&seen->messages, 1);
}

void tally_echo(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_send(conn, data, len));
    tally_message(conn, data, len, user);
}

void tally_writable(ahoy_conn conn, void *user) {
    (void)conn;
    latch_add(&((tally *)user)->writable, 1);
}

void tally_end(ahoy_conn conn, void *user) {
    (void)conn;
    latch_add(&((tally *)user)->ended, 1);
}

void tally_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn;
    tally *seen = user;
    CHECK(reason <= 0 && reason > -64);
    seen->reason = reason;
    seen->reasons[-reason]++;
    latch_add(&seen->closed, 1);
}

void tally_free(void *user) {
    latch_add(&((tally *)user)->freed, 1);
}

ahoy_conn tally_conn(tally *seen) {
    return (ahoy_conn){ seen->conn };
}

void count_free(void *counter) {
    latch_add(counter, 1);
}

/* ---- The process ----------------------------------------------------------------------------- */

static int entries(const char *path) {
    DIR *listing = opendir(path);
    CHECK(listing != NULL);
    int count = 0;
    while (readdir(listing)) count++;
    closedir(listing);
    return count - 2; /* "." and ".." */
}

int descriptors_open(void) {
    return entries("/proc/self/fd") - 1; /* the listing's own */
}

int threads_running(void) {
    return entries("/proc/self/task");
}

unsigned descriptors_up_to(unsigned count) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur >= count) return count;
    struct rlimit wanted = { count, limit.rlim_max > count ? limit.rlim_max : count };
    if (setrlimit(RLIMIT_NOFILE, &wanted) == 0) return count;
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    return (unsigned)limit.rlim_max;
}

bool descriptors_allow(unsigned count) {
    return descriptors_up_to(count) == count;
}

holdings holdings_now(void) {
    return (holdings){ descriptors_open(), threads_running() };
}

void check_holdings(const char *file, int line, holdings before) {
    /* A joined thread leaves /proc a moment after the join; so one that had ended may be among those before. */
    wait_begin(file, line, "threads to leave");
    while (threads_running() > before.threads) wait_moment();
    wait_end();
    check_equal(file, line, "open descriptors", "before", descriptors_open(), before.descriptors);
}
