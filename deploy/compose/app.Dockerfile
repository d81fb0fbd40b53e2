# Your app, with the package's `fleet` command and built-in load balancer.
#
#   docker build -t fastify-fleet .

FROM node:24-slim
WORKDIR /app

# Cached until a dependency changes. The lock file is optional; without it npm chooses versions now.
COPY package.json package-lock.json* *.tgz* ./
RUN --mount=type=cache,target=/root/.npm \
    if [ -e package-lock.json ]; then npm ci --omit=dev --no-audit --no-fund; else npm install --omit=dev --no-audit --no-fund; fi

# Node runs your TypeScript files directly. A build step goes here: RUN npm run build
COPY . .

ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000 PATH=/app/node_modules/.bin:$PATH
EXPOSE 3000
# Numeric, so that Kubernetes can verify that it is not root.
USER 1000:1000

# Readiness, so that `docker compose up --wait` and `service_healthy` mean "it serves". The image has no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=2 \
  CMD ["node", "-e", "require('node:http').get({ port: process.env.FLEET_ADMIN_PORT || process.env.PORT, path: '/ready', agent: false }, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]

# Node is process 1 and receives the signal itself: it drains, finishes its requests and exits. Not `npm start`.
STOPSIGNAL SIGTERM
CMD ["node", "app.js"]
