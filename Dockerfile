# The reference application, the `fleet` command and the built-in load balancer in one image: Debian, Node, production
# dependencies, nothing else. No compiler, no package manager, no Prisma CLI.
#
#   docker build -t fastify-fleet .

FROM node:24-slim AS build
WORKDIR /app

# Cached until a dependency changes.
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts --no-audit --no-fund

COPY scripts/image-modules.js scripts/
RUN node scripts/image-modules.js /image/node_modules \
      fastify @fastify/static @fastify/websocket @prisma/client @prisma/adapter-pg pg

COPY prisma.config.ts ./
COPY prisma/schema.prisma prisma/
COPY scripts/generate-client.js scripts/
RUN node scripts/generate-client.js

COPY tsconfig.json tsconfig.build.json tsconfig.image.json ./
COPY prisma prisma
COPY src src
# Type errors are the tests' concern: here one would only prevent the image.
RUN npx tsc -p tsconfig.image.json --noCheck \
 && cp -R package.json /image/ \
 && cp -R prisma/migrations /image/prisma/ \
 && cp -R src/app/public /image/src/app/ \
 && cp -R src/dashboard/assets /image/src/dashboard/ \
 && chmod +x /image/src/cli/main.js

FROM debian:trixie-slim
COPY --from=build /usr/local/bin/node /usr/local/bin/node
RUN groupadd --gid 1000 node \
 && useradd --uid 1000 --gid node --no-create-home --home-dir /app --shell /usr/sbin/nologin node \
 && ln -s /app/src/cli/main.js /usr/local/bin/fleet

WORKDIR /app
# A separate layer, because it is large and rarely changes.
COPY --from=build /image/node_modules node_modules
COPY --from=build /image/package.json ./
COPY --from=build /image/prisma prisma
COPY --from=build /image/src src
COPY LICENSE THIRD_PARTY_LICENSES.md ./

ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000
EXPOSE 3000
# Numeric, so that Kubernetes can verify that it is not root.
USER 1000:1000

# Readiness, so that `docker compose up --wait` and `service_healthy` mean "it serves". The image has no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=2 \
  CMD ["node", "-e", "require('node:http').get({ port: process.env.FLEET_ADMIN_PORT || process.env.PORT, path: '/ready', agent: false }, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]

# Node is process 1 and receives the signal itself: it drains, finishes its requests and exits.
STOPSIGNAL SIGTERM
CMD ["node", "src/app/main.js"]
