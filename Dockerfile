# For people who have Docker. It was written and read where no Docker runs: it has not been built.
FROM node:24-slim
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev
COPY bin bin
COPY src src
ENV DIBS_HOST=0.0.0.0 DIBS_DATA=/data
RUN mkdir /data && chown node /data
USER node
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["node", "src/cli/main.ts"]
CMD ["serve"]
