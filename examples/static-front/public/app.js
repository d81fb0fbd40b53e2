const response = await fetch('api/visits')
document.querySelector('#visits').textContent = (await response.json()).visits
