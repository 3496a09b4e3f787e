# The image of pop3gw: the program, certificates to trust, and nothing else.
#
#	docker build -t pop3gw --build-arg VERSION=1.2.3 .
#
# The same sources, VERSION and SOURCE_DATE_EPOCH give the same program and the same
# files. It builds with and without BuildKit; with it also for other machines:
# --platform linux/amd64,linux/arm64.

# Compiled on the machine that builds, whatever it is built for. The word behind :-
# is for builders that do not know BUILDPLATFORM.
FROM --platform=${BUILDPLATFORM:-linux} golang:1.26.8-bookworm AS build
ARG GOPROXY=https://proxy.golang.org,direct GOSUMDB=sum.golang.org
WORKDIR /src
COPY . .
# TARGETOS and TARGETARCH are empty without BuildKit: Go then builds for the machine
# that it runs on. A default here would win over what BuildKit sets.
ARG TARGETOS TARGETARCH VERSION=devel SOURCE_DATE_EPOCH=0
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOTOOLCHAIN=local go build -trimpath -buildvcs=false \
	-ldflags "-s -w -X main.stamp=$VERSION" -o /image/usr/bin/pop3gw ./cmd/pop3gw && \
	mkdir -p /image/etc/ssl/certs /image/var/lib /state/pop3gw && \
	cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ && \
	chmod 700 /state/pop3gw && \
	find /image /state -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

FROM scratch
# Who runs it: the owner of the state and, where it serves Maildirs, of the mail.
ARG UID=65532
COPY --from=build /image/ /
COPY --from=build --chown=${UID}:${UID} /state/ /var/lib/
USER ${UID}:${UID}
VOLUME /var/lib/pop3gw
EXPOSE 110 995
ENTRYPOINT ["/usr/bin/pop3gw"]
CMD ["serve"]
HEALTHCHECK --interval=10s --timeout=5s --retries=3 CMD ["/usr/bin/pop3gw", "health"]
ARG VERSION=devel REVISION=
LABEL org.opencontainers.image.title="pop3gw" \
	org.opencontainers.image.description="POP3 over a Maildir or an IMAP account" \
	org.opencontainers.image.licenses="MIT" \
	org.opencontainers.image.version="${VERSION}" \
	org.opencontainers.image.revision="${REVISION}"
