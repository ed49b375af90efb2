/*
 * Each address that is wrong has its own status and a detail that names it. Nothing is started by half,
 * and nothing is left: neither a descriptor nor a thread nor a file.
 */
#include "support.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void refuse(const char *listen, ahoy_status expected) {
    holdings before = holdings_now();
    tally seen = TALLY_INIT;
    ahoy_server server = { 77 };
    ahoy_server_options options = OPTIONS(.listen = listen, .workers = 2, .on_free = tally_free,
                                          .user = &seen);
    ahoy_status status = ahoy_server_start(&options, &server);
    if (status != expected) fprintf(stderr, "listen: \"%s\"\n", listen);
    CHECK_STATUS(status, expected);
    CHECK_EQ(server.id, 77);
    CHECK(strlen(ahoy_last_error()) > 0);
    CHECK_EQ(latch_count(&seen.freed), 0); /* the user data stays the program's */
    CHECK_HOLDINGS(before);
}

static void refuse_naming(const char *listen, ahoy_status expected, const char *detail) {
    refuse(listen, expected);
    if (!strstr(ahoy_last_error(), detail)) fprintf(stderr, "expected to name: %s\n", detail);
    CHECK(strstr(ahoy_last_error(), detail) != NULL);
}

static void malformed(void) {
    static const char *const urls[] = {
        "", " ", ",", "tcp", "tcp:", "tcp:/", "tcp://", "://", "127.0.0.1", "127.0.0.1:80", "8888",
        "localhost:80", "http://127.0.0.1:80", "tcp//127.0.0.1:80", "tcp:127.0.0.1:80",
        "tcp://:80", "tcp://[::1:80", "tcp://::1:80", "tcp://[]:80", "tcp://[zz]:80", "tcp://127.0.0.1:0/path",
        "tcp://[127.0.0.1]:0", "tcp://user@127.0.0.1:0", "tcp://127.0.0.1:0?x", "tcp:// 127.0.0.1:0",
        "unix:", "unix:@", "TCP", "tcp://127.0.0.1:0,", ",tcp://127.0.0.1:0",
        "tcp://127.0.0.1:0,,tcp://127.0.0.1:0", "tcp://127.0.0.1:0;tcp://127.0.0.1:0", "tcp://\xff\xfe:0",
        "\xff\xfe",
    };
    int wrong = 0;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        ahoy_server server = { 0 };
        holdings before = holdings_now();
        ahoy_server_options options = OPTIONS(.listen = urls[i]);
        ahoy_status status = ahoy_server_start(&options, &server);
        /* Where the port is missing or followed by something, both sentences are true. */
        bool expected = status == AHOY_ERR_URL || (status == AHOY_ERR_PORT && !strncmp(urls[i], "tcp://", 6));
        if (!expected) {
            fprintf(stderr, "\"%s\": %s\n", urls[i], ahoy_status_name(status));
            wrong++;
            ahoy_server_free(server);
            continue;
        }
        CHECK(strlen(ahoy_last_error()) > 0);
        CHECK_EQ(server.id, 0);
        CHECK_HOLDINGS(before);
    }
    CHECK_EQ(wrong, 0);
}

static void ports(void) {
    refuse_naming("tcp://127.0.0.1:65536", AHOY_ERR_PORT, "65536");
    refuse_naming("tcp://127.0.0.1:99999999999999999999", AHOY_ERR_PORT, "99999999999999999999");
    refuse_naming("tcp://127.0.0.1:-1", AHOY_ERR_PORT, "-1");
    refuse_naming("tcp://127.0.0.1:+80", AHOY_ERR_PORT, "+80");
    refuse_naming("tcp://127.0.0.1:http", AHOY_ERR_PORT, "http");
    refuse_naming("tcp://127.0.0.1:80x", AHOY_ERR_PORT, "80x");
    refuse("tcp://127.0.0.1:", AHOY_ERR_PORT);
    refuse("tcp://127.0.0.1: 80", AHOY_ERR_PORT);
    refuse("tcp://[::1]:65536", AHOY_ERR_PORT);
    refuse("tcp://[::1]:", AHOY_ERR_PORT);
}

static void paths(void) {
    char url[300] = "unix:/tmp/";
    memset(url + strlen(url), 'x', 150);
    refuse(url, AHOY_ERR_PATH_TOO_LONG);
    memcpy(url, "unix:@tmp/", 10);
    refuse(url, AHOY_ERR_PATH_TOO_LONG);
    refuse_naming("unix:/nonexistent/folder/a.sock", AHOY_ERR_NOT_FOUND, "/nonexistent/folder/a.sock");
    refuse("unix:/dev/null/a.sock", AHOY_ERR_NOT_FOUND);
}

/* The longest path that a Unix socket takes is taken. */
static void longest_path(void) {
    char url[200];
    int prefix = snprintf(url, sizeof url, "unix:%s/", make_folder());
    memset(url + prefix, 'x', sizeof url - (size_t)prefix);
    url[5 + 107] = '\0'; /* 107 bytes and a zero byte */
    ahoy_server server = start(OPTIONS(.listen = url));
    close(dial_url(url));
    ahoy_server_free(server);
    url[5 + 107] = 'x', url[5 + 108] = '\0';
    refuse(url, AHOY_ERR_PATH_TOO_LONG);
    remove_folder();
}

static void the_system_says_no(void) {
    char url[128], two[300];
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    refuse_naming(url, AHOY_ERR_ADDRESS_IN_USE, url);
    /* What was already listening is closed again when a later address fails. */
    snprintf(two, sizeof two, "tcp://127.0.0.1:0,unix:@ahoy-half-%d,%s", (int)getpid(), url);
    refuse_naming(two, AHOY_ERR_ADDRESS_IN_USE, url);
    snprintf(two, sizeof two, "%s,%s", LOOPBACK, "tcp://127.0.0.1:x");
    refuse(two, AHOY_ERR_PORT);
    ahoy_server_free(server);

    refuse_naming("tcp://192.0.2.1:0", AHOY_ERR_ADDRESS_UNAVAILABLE, "192.0.2.1");
    refuse("tcp://[2001:db8::1]:0", AHOY_ERR_ADDRESS_UNAVAILABLE);
    refuse_naming("tcp://no-such-host.invalid:80", AHOY_ERR_ADDRESS_UNAVAILABLE, "no-such-host.invalid");
}

/* As a user who may do little. */
static void permissions(void) {
    const char *folder = make_folder();
    char url[128];
    snprintf(url, sizeof url, "unix:%s/a.sock", folder);
    CHECK(chmod(folder, 0700) == 0);
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(30);
        if (setgid(65534) || setuid(65534)) _exit(0); /* not root: nothing to show */
        refuse_naming(url, AHOY_ERR_PERMISSION, url);
        int start_of_unprivileged = 1024;
        FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r");
        if (file && fscanf(file, "%d", &start_of_unprivileged) != 1) start_of_unprivileged = 1024;
        if (file) fclose(file);
        if (start_of_unprivileged > 80) {
            refuse_naming("tcp://127.0.0.1:80", AHOY_ERR_PERMISSION, "bind tcp://127.0.0.1:80");
        }
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    CHECK(rmdir(folder) == 0);
}

int main(void) {
    permissions(); /* first: a child is a process of its own only before the library was used here */
    malformed();
    ports();
    paths();
    the_system_says_no();
    longest_path();
    return 0;
}
