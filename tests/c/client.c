#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- Clients --------------------------------------------------------------------------------- */

socklen_t url_parse(const char *url, struct sockaddr_storage *name) {
    const char *rest = strchr(url, ':');
    char host[64];
    unsigned port;
    CHECK(rest++ != NULL);
    memset(name, 0, sizeof *name);
    if (strncmp(url, "unix", 4) == 0) {
        struct sockaddr_un *local = (struct sockaddr_un *)name;
        size_t len = strlen(rest);
        CHECK(len < sizeof local->sun_path);
        local->sun_family = AF_UNIX;
        memcpy(local->sun_path, rest, len);
        if (rest[0] != '@') return sizeof *local;
        local->sun_path[0] = '\0';
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    }
    if (sscanf(rest, "//[%63[^]]]:%u", host, &port) == 2) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)name;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        CHECK(inet_pton(AF_INET6, host, &v6->sin6_addr) == 1);
        return sizeof *v6;
    }
    struct sockaddr_in *v4 = (struct sockaddr_in *)name;
    CHECK(sscanf(rest, "//%63[^:]:%u", host, &port) == 2);
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    CHECK(inet_pton(AF_INET, host, &v4->sin_addr) == 1);
    return sizeof *v4;
}

int try_dial_url(const char *url) {
    struct sockaddr_storage name;
    socklen_t len = url_parse(url, &name);
    int fd = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (connect(fd, (struct sockaddr *)&name, len) == 0) return fd;
    int error = errno;
    close(fd);
    return -error;
}

int dial_url(const char *url) {
    int fd = try_dial_url(url);
    if (fd < 0) errno = -fd;
    CHECK(fd >= 0);
    return fd;
}

int dial(ahoy_server server) {
    char url[128];
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    return dial_url(url);
}

void connect_url(int fd, const char *url) {
    struct sockaddr_storage name;
    socklen_t len = url_parse(url, &name);
    CHECK(connect(fd, (struct sockaddr *)&name, len) == 0);
}

void send_all(int fd, const void *data, size_t len) {
    const char *rest = data;
    while (len > 0) {
        ssize_t sent = send(fd, rest, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        CHECK(sent > 0);
        rest += sent;
        len -= (size_t)sent;
    }
}

void recv_exact(int fd, void *buffer, size_t len) {
    char *rest = buffer;
    while (len > 0) {
        ssize_t got = recv(fd, rest, len, 0);
        if (got < 0 && errno == EINTR) continue;
        CHECK(got > 0);
        rest += got;
        len -= (size_t)got;
    }
}

ssize_t recv_until_eof(int fd, void *buffer, size_t capacity) {
    char spare[4096];
    size_t total = 0;
    for (;;) {
        bool fits = total < capacity;
        ssize_t got = recv(fd, fits ? (char *)buffer + total : spare,
                           fits ? capacity - total : sizeof spare, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        if (got == 0) return (ssize_t)total;
        total += (size_t)got;
    }
}

void close_reset(int fd) {
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    CHECK(close(fd) == 0);
}

void stream_pair(int pair[2]) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
}

/* A period that no power of two divides: a lost or doubled buffer shows. */
static unsigned char pattern_at(size_t offset) {
    return (unsigned char)(offset % 251);
}

void pattern_fill(void *data, size_t len, size_t offset) {
    for (size_t i = 0; i < len; i++) ((unsigned char *)data)[i] = pattern_at(offset + i);
}

bool pattern_matches(const void *data, size_t len, size_t offset) {
    for (size_t i = 0; i < len; i++) {
        if (((const unsigned char *)data)[i] != pattern_at(offset + i)) return false;
    }
    return true;
}

const char *abstract_url(void) {
    static char url[64];
    static int number = 0;
    snprintf(url, sizeof url, "unix:@ahoy-test-%d-%d", (int)getpid(), number++);
    return url;
}

static char folder[32];

const char *make_folder(void) {
    strcpy(folder, "/tmp/ahoy-test-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    return folder;
}

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *place) {
    (void)stat, (void)kind, (void)place;
    return remove(path);
}

void remove_folder(void) {
    CHECK(nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS) == 0);
}

void leave_child(void) {
    fflush(NULL);
    if (getenv("TEST_VALGRIND")) execl("/bin/true", "true", (char *)NULL);
    _exit(0);
}
