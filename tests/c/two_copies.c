/*
 * Two copies of the library in one process, as when two plugins bring their own, do not fight: each has its
 * servers, its errors and its log, and takes the other's handles for forged.
 */
#include "support.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

/* The functions of the second copy. */
static struct {
    ahoy_status (*server_start)(const ahoy_server_options *, ahoy_server *);
    ahoy_status (*server_address)(ahoy_server, size_t, char *, size_t);
    ahoy_status (*server_stop)(ahoy_server, int32_t);
    void (*server_free)(ahoy_server);
    ahoy_status (*send)(ahoy_conn, const void *, size_t);
    ahoy_status (*log_set)(int32_t, ahoy_log_fn, void *);
    const char *(*last_error)(void);
} other;

static void *symbol(void *library, const char *name) {
    void *address = dlsym(library, name);
    CHECK(address != NULL);
    return address;
}

/* Loads a copy of the library's file: the same file would only give the same copy. */
static void load_copy(void) {
    Dl_info info;
    struct stat stat;
    char path[256];
    CHECK(dladdr((void *)(uintptr_t)ahoy_version, &info) != 0);
    snprintf(path, sizeof path, "%s/copy.so", make_folder());
    int from = open(info.dli_fname, O_RDONLY | O_CLOEXEC);
    int to = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
    CHECK(from >= 0 && to >= 0 && !fstat(from, &stat));
    while (stat.st_size > 0) {
        ssize_t copied = sendfile(to, from, NULL, (size_t)stat.st_size);
        CHECK(copied > 0);
        stat.st_size -= copied;
    }
    close(from), close(to);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fprintf(stderr, "%s\n", dlerror());
    CHECK(library != NULL);
    *(void **)&other.server_start = symbol(library, "ahoy_server_start");
    *(void **)&other.server_address = symbol(library, "ahoy_server_address");
    *(void **)&other.server_stop = symbol(library, "ahoy_server_stop");
    *(void **)&other.server_free = symbol(library, "ahoy_server_free");
    *(void **)&other.send = symbol(library, "ahoy_send");
    *(void **)&other.log_set = symbol(library, "ahoy_log_set");
    *(void **)&other.last_error = symbol(library, "ahoy_last_error");
    CHECK((void *)(uintptr_t)other.send != (void *)(uintptr_t)ahoy_send);
    remove_folder();
}

static void echo_by_other(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(other.send(conn, data, len));
    tally_message(conn, data, len, user);
}

static void count_log(int32_t level, const char *message, void *user) {
    (void)level, (void)message;
    latch_add(user, 1);
}

static void echo_round(int fd) {
    char echo[4];
    send_all(fd, "echo", 4);
    recv_exact(fd, echo, 4);
}

int main(void) {
    load_copy();
    tally mine = TALLY_INIT, theirs = TALLY_INIT;
    latch my_log = LATCH_INIT, their_log = LATCH_INIT;
    CHECK_OK(ahoy_log_set(AHOY_LOG_INFO, count_log, &my_log));
    CHECK_OK(other.log_set(AHOY_LOG_OFF, count_log, &their_log));

    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .on_open = tally_open,
                                       .on_message = tally_echo, .user = &mine));
    long logged = latch_count(&my_log);
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .on_open = tally_open,
                                          .on_message = echo_by_other, .user = &theirs);
    ahoy_server their_server;
    char url[128];
    CHECK_OK(other.server_start(&options, &their_server));
    CHECK_OK(other.server_address(their_server, 0, url, sizeof url));
    CHECK(logged > 0);
    CHECK_EQ(latch_count(&my_log), logged);
    CHECK_EQ(latch_count(&their_log), 0);

    int fd = dial(server), their_fd = dial_url(url);
    echo_round(fd);
    echo_round(their_fd);

    /* Each has its own errors. */
    options.listen = "tcp://127.0.0.1:70000";
    ahoy_server none;
    CHECK_STATUS(other.server_start(&options, &none), AHOY_ERR_PORT);
    CHECK(strstr(other.last_error(), "70000") != NULL);
    CHECK_TEXT(ahoy_last_error(), "");

    /* The end of one is not the end of the other. */
    other.server_free(their_server);
    CHECK_STATUS(other.server_stop(their_server, 0), AHOY_ERR_STALE);
    echo_round(fd);
    ahoy_server_free(server);
    close(fd), close(their_fd);
    return 0;
}
