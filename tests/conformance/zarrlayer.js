// A page that shows a store by zarr-layer on a map of MapLibre, and tells what it reads and what is on the screen.
import {ZarrLayer} from '@carbonplan/zarr-layer';
import {Map} from 'maplibre-gl';

// From black (low) to red (high).
const colormap = Array.from({length: 256}, (_, red) => [red, 0, 0]);

window.look = async (source, variable, selector, low, high, points) => {
  const container = document.createElement('div');
  container.style.cssText = 'width:600px;height:600px';
  document.body.replaceChildren(container);
  const map = new Map({
    container,
    style: {version: 8, sources: {}, layers: []},
    fadeDuration: 0,
    renderWorldCopies: true,
    attributionControl: false,
    canvasContextAttributes: {preserveDrawingBuffer: true},
  });
  await map.once('load');
  const wests = points.map(([x]) => x), souths = points.map(([, y]) => y);
  map.fitBounds([[Math.min(...wests), Math.min(...souths)], [Math.max(...wests), Math.max(...souths)]], {padding: 60, animate: false});
  let ready;
  const loaded = new Promise((done) => (ready = done));
  const layer = new ZarrLayer({
    id: 'cells', source, variable, selector, colormap, clim: [low, high],
    onLoadingStateChange: ({loading, metadata, chunks, error}) => (error || !(loading || metadata || chunks)) && ready(error),
  });
  map.addLayer(layer);
  const error = await loaded;
  if (error) throw error;
  const seen = document.createElement('canvas');
  const canvas = map.getCanvas();
  [seen.width, seen.height] = [canvas.width, canvas.height];
  const ink = seen.getContext('2d');
  const middle = map.project(points[0]);
  // It says that it is ready before the map has drawn it.
  for (let tries = 0; tries < 100; tries++) {
    map.triggerRepaint();
    await map.once('render');
    ink.drawImage(canvas, 0, 0);
    if (ink.getImageData(Math.round(middle.x), Math.round(middle.y), 1, 1).data[3]) break;
    await new Promise((done) => setTimeout(done, 50));
  }
  const found = [];
  for (const coordinates of points) {
    const result = await layer.queryData({type: 'Point', coordinates});
    const {x, y} = map.project(coordinates);
    found.push({data: result[variable]?.[0], shown: [...ink.getImageData(Math.round(x), Math.round(y), 1, 1).data]});
  }
  return JSON.stringify({found});
};
