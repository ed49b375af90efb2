#include "dgram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_bound(sa_family_t family, const char *own) {
    struct sockaddr_storage name;
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (own) {
        socklen_t len = url_parse(own, &name);
        CHECK(!bind(fd, (struct sockaddr *)&name, len));
    }
    return fd;
}

int dgram_dial_url(const char *url, const char *own) {
    struct sockaddr_storage name;
    socklen_t len = url_parse(url, &name);
    int fd = open_bound(name.ss_family, own);
    CHECK(!connect(fd, (struct sockaddr *)&name, len));
    return fd;
}

int dgram_dial(ahoy_server server, size_t index, const char *own) {
    char url[128];
    CHECK_OK(ahoy_server_address(server, index, url, sizeof url));
    return dgram_dial_url(url, own);
}

int dgram_bind(const char *own, char *url, size_t capacity) {
    struct sockaddr_storage name;
    socklen_t len = url_parse(own, &name);
    char host[INET6_ADDRSTRLEN];
    int fd = open_bound(name.ss_family, own);
    CHECK(!getsockname(fd, (struct sockaddr *)&name, &len));
    if (name.ss_family == AF_INET) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&name;
        CHECK(inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host));
        snprintf(url, capacity, "udp://%s:%d", host, ntohs(v4->sin_port));
    } else if (name.ss_family == AF_INET6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&name;
        CHECK(inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host));
        snprintf(url, capacity, "udp://[%s]:%d", host, ntohs(v6->sin6_port));
    } else {
        snprintf(url, capacity, "%s", own);
    }
    return fd;
}

const char *dgram_name(unsigned number) {
    static char names[8][64];
    CHECK(number < 8);
    snprintf(names[number], sizeof names[number], "unixgram:@ahoy-test-%d-%u", (int)getpid(), number);
    return names[number];
}

void dgram_send(int fd, const void *data, size_t len) {
    ssize_t sent;
    do {
        sent = send(fd, data, len, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    CHECK(sent == (ssize_t)len);
}

void dgram_send_url(int fd, const char *url, const void *data, size_t len) {
    struct sockaddr_storage name;
    socklen_t name_len = url_parse(url, &name);
    CHECK(sendto(fd, data, len, MSG_NOSIGNAL, (struct sockaddr *)&name, name_len) == (ssize_t)len);
}

size_t dgram_recv(int fd, void *buffer, size_t capacity) {
    ssize_t got;
    do {
        got = recv(fd, buffer, capacity, MSG_TRUNC);
    } while (got < 0 && errno == EINTR);
    CHECK(got >= 0 && got <= (ssize_t)capacity);
    return (size_t)got;
}

void dgram_expect(int fd, const void *data, size_t len) {
    static _Thread_local char got[UDP_BYTES_MAX + 1];
    CHECK_EQ(dgram_recv(fd, got, sizeof got), len);
    CHECK(len == 0 || memcmp(got, data, len) == 0);
}

/* ---- Many peers of one socket ---------------------------------------------------------------- */

enum { HOST_FIRST = 0x7f010000 };

typedef union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
} control;

int dgram_hosts(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), yes = 1;
    CHECK(fd >= 0 && !setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &yes, sizeof yes));
    return fd;
}

void dgram_send_as(uint32_t host, int fd, const char *url, const void *data, size_t len) {
    struct sockaddr_storage name;
    control control = { 0 };
    struct iovec part = { (void *)data, len };
    struct msghdr message = { .msg_name = &name, .msg_namelen = url_parse(url, &name), .msg_iov = &part,
                              .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    struct in_pktinfo from = { .ipi_spec_dst = { htonl(HOST_FIRST + host) } };
    control.header = (struct cmsghdr){ CMSG_LEN(sizeof from), IPPROTO_IP, IP_PKTINFO };
    memcpy(CMSG_DATA(&control.header), &from, sizeof from);
    CHECK(sendmsg(fd, &message, 0) == (ssize_t)len);
}

uint32_t dgram_recv_as(int fd, void *data, size_t len) {
    control control;
    struct iovec part = { data, len };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control };
    CHECK_EQ(recvmsg(fd, &message, MSG_TRUNC), len);
    struct in_pktinfo to;
    CHECK(CMSG_FIRSTHDR(&message) != NULL);
    memcpy(&to, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof to);
    return ntohl(to.ipi_addr.s_addr) - HOST_FIRST;
}
