# Your app, with the `fleet` command and the built-in load balancer that comes with the package.
#
#   docker build -t fastify-fleet .

FROM node:24-slim
WORKDIR /app

# Only a changed dependency makes this layer anew. The lock file may be missing; then versions are chosen now.
COPY package.json package-lock.json* *.tgz* ./
RUN --mount=type=cache,target=/root/.npm \
    if [ -e package-lock.json ]; then npm ci --omit=dev --no-audit --no-fund; else npm install --omit=dev --no-audit --no-fund; fi

# Node runs TypeScript of your own as it is. What has to be built, build here: RUN npm run build
COPY . .

ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000 PATH=/app/node_modules/.bin:$PATH
EXPOSE 3000
# By number, so that Kubernetes can see that it is not root.
USER 1000:1000

# Readiness: `docker compose up --wait` and `service_healthy` then mean "it serves". The image has no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=2 \
  CMD ["node", "-e", "require('node:http').get({ port: process.env.FLEET_ADMIN_PORT || process.env.PORT, path: '/ready', agent: false }, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]

# Node is process 1 and gets the signal itself: it drains, serves what it has, and ends. Not `npm start`.
STOPSIGNAL SIGTERM
CMD ["node", "app.js"]
